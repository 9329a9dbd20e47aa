"""The keys that services call with, and the audit trail.

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger),
        sa.Column("revoked", sa.BigInteger),
        sa.Column("last_used", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="api_key_pkey"),
    )
    op.create_table(
        "audit_entry",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            nullable=False,
            autoincrement=False,
        ),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="audit_entry_pkey"),
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.SmallInteger, nullable=False, autoincrement=False),
        sa.Column("entries", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="audit_head_pkey"),
    )
    _begin_trail()


def _begin_trail() -> None:
    """Seals the end of a trail without entries: one that is missing later was taken away.

    A database that has no key of its contents yet gets it with that key.
    """
    contents = getattr(context.config.attributes["database"], "contents", None)
    if contents is not None:
        sealed = contents.seal(b"audit head".ljust(16, b"\0"), bytes(32))
        columns = [sa.column(name) for name in ("id", "entries", "digest")]
        head = sa.table("audit_head", *columns)
        op.execute(head.insert().values(id=1, entries=0, digest=sealed))


def downgrade() -> None:
    op.drop_table("audit_head")
    op.drop_table("audit_entry")
    op.drop_table("api_key")
