"""Moving house: all that is in one database, copied to another, and the jobs compared.

Ids are copied too, since they say who came first.
"""

import hashlib
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select

from jobengine.domain.errors import CannotOpen
from jobengine.store.database import Database
from jobengine.store.failures import or_bare
from jobengine.store.migrate import begin_filling, end_filling, is_filling
from jobengine.store.tables import depths, statistics
from jobengine.store.tables.audit import copied_end
from jobengine.store.tables.models import api_key, audit_entry, audit_head, job, queue, web_user
from jobengine.store.tables.prepared import Prepared
from jobengine.store.tables.rows import BARE_FOLLOWING, CONTENT_OF, FOLLOWING

# What is read and committed at once: so many jobs, or so many bytes of content.
_CHUNK_JOBS = 1000
_CHUNK_BYTES = 16 * 1024 * 1024

# Copied whole, in one commit.
_SMALL = (queue, api_key, web_user, audit_entry)

_NAMES = tuple(job.c.keys())
# Where the columns of a table's row are in one of FOLLOWING.
_IN_ORDER = itemgetter(*(list(FOLLOWING.selected_columns.keys()).index(name) for name in _NAMES))
_INSERT = Prepared(insert(job).values({name: bindparam(name) for name in _NAMES}), order=_NAMES)

# A row of JOB_COLUMNS, with the content as its client sent it.
_Row = tuple[Any, ...]


class Move:
    """A copy from one database, at rest, to another that is empty or was begun before."""

    def __init__(self, source: Database, target: Database) -> None:
        """Copies all but the jobs. Raises CannotOpen where the target has others of its own.

        With the first rows the target is marked as unfinished. One that has rows and no such
        mark is left as it is: it is only compared.
        """
        self._source = source
        self._target = target
        self.jobs = _count(source)
        self.checksum = ""
        with target.writer.connect() as connection:
            self._fills = is_filling(connection) or _is_empty(connection)
        with target.writer.begin() as connection:
            for table in _SMALL:
                self._copy_table(connection, table)
            if self._fills:
                begin_filling(connection)
                self._copy_end_of_trail(connection)
        if self._fills:
            self._copy_statistics()

    def _copy_table(self, connection: Connection, table: Table) -> None:
        with self._source.readers.connect() as reading:
            rows = _rows(reading, table)
        there = _rows(connection, table)
        if there != rows and (there or not self._fills):
            raise CannotOpen(
                f"{self._target.place} has rows of its own in the table {table.name}: expected an "
                "empty database, or one that an earlier move from the same source has begun to fill"
            )
        if rows and not there:
            named = [dict(zip(table.c.keys(), row, strict=True)) for row in rows]
            connection.execute(insert(table), named)
            if table is queue:
                depths.add_queues(connection, [row["id"] for row in named])

    def _copy_end_of_trail(self, connection: Connection) -> None:
        with self._source.readers.connect() as reading:
            end = copied_end(reading, self._source.contents, self._target.contents)
        if end is not None:
            connection.execute(delete(audit_head))
            connection.execute(insert(audit_head).values(end))

    def _copy_statistics(self) -> None:
        key: statistics.Row = (0, 0, 0)
        while True:
            with self._source.readers.connect() as reading:
                rows = statistics.following(reading, key, _CHUNK_JOBS)
            if not rows:
                return
            with self._target.writer.begin() as connection:
                statistics.copy(connection, rows)
            key = rows[-1][: len(key)]

    def copy(self) -> Iterator[int]:
        """Copies the jobs that are not there yet; gives how many, chunk by chunk.

        Each chunk is one commit, so that a copy that was cut off goes on from there.
        """
        with self._target.readers.connect() as connection:
            after = connection.execute(select(func.max(job.c.id))).scalar_one() or 0
        yield _count(self._target)
        while self._fills and (rows := _chunk(self._source, after)):
            after = rows[-1][0]
            sealed = [
                _IN_ORDER((*row[:-1], self._target.contents.seal(row[1], row[-1]))) for row in rows
            ]
            with self._target.writer.begin() as connection:
                _INSERT.many(connection, sealed)
                depths.note(connection, depths.Moves((row[2], None, row[3]) for row in rows))
            yield len(rows)
        with self._target.writer.begin() as connection:
            self._target.ids_were_copied(connection)

    def verify(self) -> Iterator[int]:
        """Reads both and compares; gives how many jobs, chunk by chunk.

        Notes the SHA-256 of all jobs in `checksum`, and lets servers open the target. Raises
        CannotOpen where they differ.
        """
        there = _count(self._target)
        if there != self.jobs:
            raise CannotOpen(
                f"{self._target.place} has {there} jobs, the source {self.jobs}: one of the two "
                "was changed meanwhile; move to an empty database"
            )
        digest = hashlib.sha256()
        after = 0
        while rows := _chunk(self._source, after):
            if rows != _chunk(self._target, after):
                raise CannotOpen(
                    f"{self._target.place} differs from the source after the job of id {after}: "
                    "one of the two was changed meanwhile; move to an empty database"
                )
            after = rows[-1][0]
            digest.update(msgspec.msgpack.encode(rows))
            yield len(rows)
        self.checksum = digest.hexdigest()
        with self._target.writer.begin() as connection:
            end_filling(connection)


def _rows(connection: Connection, table: Table) -> list[tuple[Any, ...]]:
    # Sorted here: databases differ in how they order text. The first column is the key.
    return sorted((tuple(row) for row in connection.execute(select(table))), key=itemgetter(0))


def _is_empty(connection: Connection) -> bool:
    return not any(connection.execute(select(table).limit(1)).all() for table in (*_SMALL, job))


def _count(database: Database) -> int:
    with database.readers.connect() as connection:
        return connection.execute(select(func.count()).select_from(job)).scalar_one()


def _chunk(database: Database, after: int) -> list[_Row]:
    """The jobs that follow an id, as many as make a chunk; none at the end."""
    rows: list[_Row] = []
    size = 0
    with database.readers.connect() as connection:
        binds = {"after": after, "limit": _CHUNK_JOBS}
        for row in or_bare(
            connection,
            lambda: connection.execute(FOLLOWING, binds),
            lambda: connection.execute(BARE_FOLLOWING, binds),
        ):
            content = _opened(database, connection, row)
            size += len(content)
            if rows and size > _CHUNK_BYTES:
                break
            rows.append((*row[:-1], content))
    return rows


def _opened(database: Database, connection: Connection, row: Any) -> bytes:
    content = row.content
    if content is None:
        content = or_bare(
            connection,
            lambda: connection.execute(CONTENT_OF, {"id": row.id}).scalar_one(),
            lambda: b"",  # which does not open
        )
    return database.contents.open(row.uid, content)
