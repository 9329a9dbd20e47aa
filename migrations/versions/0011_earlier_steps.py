"""What happened to a job before what its own columns say.

Revision: 0011, after 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("earlier", sa.Text))


def downgrade() -> None:
    op.drop_column("job", "earlier")
