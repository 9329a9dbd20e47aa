"""What was done with jobs, by queue and minute; since when a job is in its state.

Revision: 0007, after 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_BUCKETS = 15
_COUNTS = (
    *("created", "claimed", "completed", "failed", "expired", "deleted"),
    *("wait_seconds", *(f"wait_{bucket}" for bucket in range(_BUCKETS))),
    *("run_seconds", *(f"run_{bucket}" for bucket in range(_BUCKETS))),
    *("depth_queued", "depth_inprogress", "depth_complete", "depth_failed"),
)


def upgrade() -> None:
    op.add_column("job", sa.Column("since", sa.BigInteger))
    op.create_table(
        "statistic",
        sa.Column("queue_id", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("step", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("time", sa.BigInteger, nullable=False, autoincrement=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTS),
        sa.PrimaryKeyConstraint("queue_id", "step", "time", name="statistic_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_index("statistic_time", "statistic", ["step", "time"])


def downgrade() -> None:
    op.drop_table("statistic")
    op.drop_column("job", "since")
