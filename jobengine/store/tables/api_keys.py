"""The table of the keys that services call with."""

from collections.abc import Mapping

from sqlalchemy import Connection, insert, select, update

from jobengine.domain.key import Key
from jobengine.store.tables.models import api_key

_COLUMNS = (
    api_key.c.id,
    api_key.c.service,
    api_key.c.digest,
    api_key.c.created,
    api_key.c.expires,
    api_key.c.revoked,
    api_key.c.last_used,
)


def all_keys(connection: Connection) -> list[Key]:
    """Every key there ever was, the oldest first."""
    rows = connection.execute(select(*_COLUMNS).order_by(api_key.c.created, api_key.c.id))
    return [Key(*row) for row in rows]


def add_key(connection: Connection, key: Key) -> None:
    """Adds a key."""
    connection.execute(insert(api_key).values(**{c.name: getattr(key, c.name) for c in _COLUMNS}))


def revoke_key(connection: Connection, id_: str, now: int) -> Key | None:
    """Revokes the key, unless it is already; gives it as it was, None where there is none."""
    row = connection.execute(select(*_COLUMNS).where(api_key.c.id == id_)).one_or_none()
    if row is not None and row.revoked is None:
        connection.execute(update(api_key).where(api_key.c.id == id_).values(revoked=now))
    return None if row is None else Key(*row)


def note_uses(connection: Connection, uses: Mapping[str, int]) -> None:
    """Notes when keys, by their ids, were last used; another server may know of a later use."""
    for id_, time in uses.items():
        earlier = api_key.c.last_used.is_(None) | (api_key.c.last_used < time)
        connection.execute(
            update(api_key).where(api_key.c.id == id_, earlier).values(last_used=time)
        )
