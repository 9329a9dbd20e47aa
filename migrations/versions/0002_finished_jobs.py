"""Jobs in progress leave the index job_finish: a heartbeat moves nothing.

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _make("state >= 2")


def downgrade() -> None:
    _make("state != 0")


def _make(condition: str) -> None:
    op.drop_index("job_finish", "job")
    where = sa.text(condition)
    op.create_index(
        "job_finish",
        "job",
        ["queue_id", "state", "last_updated"],
        sqlite_where=where,
        postgresql_where=where,
    )
