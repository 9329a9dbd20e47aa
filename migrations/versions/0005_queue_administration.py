"""Queues made over HTTP, paused, bounded, and how many jobs each holds.

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_COUNT = """
INSERT INTO depth (queue_id, queued, inprogress, complete, failed)
SELECT queue.id,
       COUNT(CASE WHEN job.state = 0 THEN 1 END),
       COUNT(CASE WHEN job.state = 1 THEN 1 END),
       COUNT(CASE WHEN job.state = 2 THEN 1 END),
       COUNT(CASE WHEN job.state = 3 THEN 1 END)
FROM queue LEFT JOIN job ON job.queue_id = queue.id
GROUP BY queue.id
"""


def upgrade() -> None:
    op.add_column(
        "queue",
        sa.Column("from_config", sa.Boolean, server_default=sa.true(), nullable=False),
    )
    op.add_column(
        "queue", sa.Column("paused", sa.Boolean, server_default=sa.false(), nullable=False)
    )
    op.add_column("queue", sa.Column("max_jobs", sa.BigInteger))
    op.add_column("queue", sa.Column("own_window", sa.BigInteger))
    op.add_column("queue", sa.Column("own_keep", sa.BigInteger))
    op.create_table(
        "depth",
        sa.Column("queue_id", _ID, nullable=False, autoincrement=False),
        sa.Column("queued", sa.BigInteger, nullable=False),
        sa.Column("inprogress", sa.BigInteger, nullable=False),
        sa.Column("complete", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("queue_id", name="depth_pkey"),
        sa.ForeignKeyConstraint(["queue_id"], ["queue.id"], name="depth_queue_id_fkey"),
    )
    op.execute(_COUNT)


def downgrade() -> None:
    op.drop_table("depth")
    for column in ("own_keep", "own_window", "max_jobs", "paused", "from_config"):
        op.drop_column("queue", column)
