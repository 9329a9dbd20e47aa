"""The master keys in a database: which of them a SECRET opens.

There is one, as a rule. While the SECRET is being changed there are two, each sealed with
the other as well, so that either SECRET opens both.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection, Row, inspect, select

from jobengine.domain.errors import CannotOpen, StoreFailed
from jobengine.store.postgresql.sealed import SealedContents
from jobengine.store.postgresql.sealed import master_key as derive
from jobengine.store.secret_forms import OLD_FORM, forms
from jobengine.store.tables.models import master_key

_log = structlog.get_logger(component="store")


class Keys:
    """Finds the keys of one SECRET. Derives each once, which takes 200 ms."""

    def __init__(self, secret: bytes, place: str) -> None:
        self._forms = forms(secret)
        self._place = place
        self._derived: dict[tuple[bytes, bytes], bytes] = {}
        self._has_warned = False

    def derive(self, salt: bytes) -> bytes:
        """The key that the SECRET makes with the salt of what is new."""
        return self._derive(self._forms[0], salt)

    def makes(self, row: Row[Any]) -> bool:
        """Whether the key in the row is made of the SECRET."""
        return self._of(row) is not None

    def _derive(self, form: bytes, salt: bytes) -> bytes:
        if (form, salt) not in self._derived:
            self._derived[form, salt] = derive(form, salt)
        return self._derived[form, salt]

    def _of(self, row: Row[Any]) -> bytes | None:
        """The key in the row, where it is made of the SECRET."""
        for form in self._forms:
            key = self._derive(form, row.salt)
            if SealedContents({row.id: key}).opens(row.canary):
                self._warn(form)
                return key
        return None

    def _warn(self, form: bytes) -> None:
        if form != self._forms[0] and not self._has_warned:
            self._has_warned = True
            _log.warning(OLD_FORM, database=self._place)

    def all(self, rows: Sequence[Row[Any]]) -> dict[int, bytes]:
        """All keys, by their ids; none where there are no rows.

        Raises CannotOpen where the SECRET does not open every one.
        """
        keys = {row.id: key for row in rows if (key := self._of(row)) is not None}
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
