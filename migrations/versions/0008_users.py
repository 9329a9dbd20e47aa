"""Users of the dashboard, and their sessions.

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "web_user",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("reveal", sa.Boolean, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="web_user_pkey"),
        sa.CheckConstraint(
            "role IN ('viewer', 'operator', 'admin')", name=op.f("web_user_role_check")
        ),
    )
    op.create_table(
        "web_session",
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("user_name", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="web_session_pkey"),
        sa.ForeignKeyConstraint(
            ["user_name"], ["web_user.name"], name="web_session_user_name_fkey"
        ),
    )


def downgrade() -> None:
    op.drop_table("web_session")
    op.drop_table("web_user")
