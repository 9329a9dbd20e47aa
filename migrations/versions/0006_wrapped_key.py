"""Two keys at once, each sealed with the other, while the SECRET is being changed.

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("master_key", sa.Column("wrapped", sa.LargeBinary))


def downgrade() -> None:
    op.drop_column("master_key", "wrapped")
