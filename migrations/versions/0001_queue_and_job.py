"""The queue and the job.

Revision: 0001, the first
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "queue",
        sa.Column("id", _Id, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("readers", sa.Text, nullable=False),
        sa.Column("writers", sa.Text, nullable=False),
        sa.Column("window", sa.BigInteger, nullable=False),
        sa.Column("keep", sa.BigInteger, nullable=False),
        sa.Column("removed", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="queue_pkey"),
        sqlite_autoincrement=True,
    )
    present = sa.text("removed IS NULL")
    op.create_index(
        "queue_name", "queue", ["name"], unique=True, sqlite_where=present, postgresql_where=present
    )
    op.create_table(
        "job",
        sa.Column("id", _Id, nullable=False),
        sa.Column("uid", sa.LargeBinary(16), nullable=False),
        sa.Column("queue_id", sa.BigInteger, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("last_updated", sa.BigInteger, nullable=False),
        sa.Column("timeout_time", sa.BigInteger, nullable=False),
        sa.Column("valid_for", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="job_pkey"),
        sa.ForeignKeyConstraint(["queue_id"], ["queue.id"], name="job_queue_id_fkey"),
        sa.CheckConstraint("state BETWEEN 0 AND 3", name=op.f("job_state_check")),
        sa.CheckConstraint("priority BETWEEN 1 AND 100", name=op.f("job_priority_check")),
        sa.CheckConstraint("last_updated >= created", name=op.f("job_last_updated_check")),
    )
    op.create_index("job_uid", "job", ["uid"], unique=True)
    op.create_index(
        "job_claim", "job", ["queue_id", "state", sa.text("priority DESC"), "id", "timeout_time"]
    )
    queued, others = sa.text("state = 0"), sa.text("state != 0")
    op.create_index(
        "job_expire", "job", ["timeout_time"], sqlite_where=queued, postgresql_where=queued
    )
    op.create_index(
        "job_finish",
        "job",
        ["queue_id", "state", "last_updated"],
        sqlite_where=others,
        postgresql_where=others,
    )


def downgrade() -> None:
    op.drop_table("job")
    op.drop_table("queue")
