"""The master keys in a database: which of them a SECRET opens.

There is one, as a rule. While the SECRET is being changed there are two, each sealed with
the other as well, so that either SECRET opens both.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, inspect, select

from jobengine.domain.errors import CannotOpen, StoreFailed
from jobengine.store.postgresql.sealed import SealedContents
from jobengine.store.postgresql.sealed import master_key as derive
from jobengine.store.tables.models import master_key


class Keys:
    """Finds the keys of one SECRET. Derives each once, which takes 200 ms."""

    def __init__(self, secret: bytes, place: str) -> None:
        self._secret = secret
        self._place = place
        self._derived: dict[bytes, bytes] = {}

    def derive(self, salt: bytes) -> bytes:
        """The key that the SECRET makes with the salt."""
        if salt not in self._derived:
            self._derived[salt] = derive(self._secret, salt)
        return self._derived[salt]

    def makes(self, row: Row[Any]) -> bool:
        """Whether the key in the row is made of the SECRET."""
        return SealedContents({row.id: self.derive(row.salt)}).opens(row.canary)

    def all(self, rows: Sequence[Row[Any]]) -> dict[int, bytes]:
        """All keys, by their ids; none where there are no rows.

        Raises CannotOpen where the SECRET does not open every one.
        """
        keys = {row.id: self.derive(row.salt) for row in rows if self.makes(row)}
        if rows and not keys:
            raise CannotOpen(
                f"SECRET does not open {self._place}: it is not the SECRET that its jobs were "
                "stored with. Nothing was changed."
            )
        for row in reversed(rows):  # the newest is sealed with one that a SECRET makes
            if row.id not in keys:
                keys[row.id] = self._unwrapped(row, keys)
        return keys

    def _unwrapped(self, row: Row[Any], keys: Mapping[int, bytes]) -> bytes:
        try:
            key = SealedContents(keys).unwrap(row.id, getattr(row, "wrapped", None) or b"")
            if SealedContents({row.id: key}).opens(row.canary):
                return key
        except StoreFailed:
            pass
        raise CannotOpen(
            f"SECRET opens a part of {self._place} only: its SECRET was being changed to another "
            "one. Nothing was changed."
        )


def key_rows(connection: Connection) -> Sequence[Row[Any]]:
    """The rows of the table, by id; of a schema of before it had all its columns, too."""
    there = _columns(connection)
    columns = [column for column in master_key.c if column.name in there]
    return connection.execute(select(*columns).order_by(master_key.c.id)).all()


def has_wraps(connection: Connection) -> bool:
    """Whether the schema has room for keys that are sealed with each other."""
    return master_key.c.wrapped.name in _columns(connection)


def _columns(connection: Connection) -> set[str]:
    if not inspect(connection).has_table(master_key.name):
        return set()
    return {column["name"] for column in inspect(connection).get_columns(master_key.name)}
