"""Who made, claimed and changed a job.

Revision: 0009, after 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_COLUMNS = {
    "creator": sa.Text,
    "claims": sa.Integer,
    "claimed": sa.BigInteger,
    "claimer": sa.Text,
    "changer": sa.Text,
}


def upgrade() -> None:
    for name, type_ in _COLUMNS.items():
        op.add_column("job", sa.Column(name, type_))


def downgrade() -> None:
    for name in reversed(_COLUMNS):
        op.drop_column("job", name)
