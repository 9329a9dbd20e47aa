"""The keys that contents are sealed with on PostgreSQL.

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "master_key",
        sa.Column("id", sa.SmallInteger, nullable=False, autoincrement=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("canary", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="master_key_pkey"),
    )


def downgrade() -> None:
    op.drop_table("master_key")
