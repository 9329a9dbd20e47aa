"""A new SECRET for a database of sealed contents.

First the new key joins the old one, each sealed with the other, in one transaction: from
then on either SECRET opens everything, and servers seal with the new one. Then every content
that is not yet sealed with it is, chunk by chunk, beside servers or not. Last, with no
server there and nothing left of the old key's, it is dropped. Cut off anywhere, it goes on
when it is started again.
"""

import secrets
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from sqlalchemy import Connection, LargeBinary, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from jobengine.config.settings import DatabaseUrl
from jobengine.domain.errors import CannotOpen, StoreFailed
from jobengine.store.contents import Contents
from jobengine.store.failures import original
from jobengine.store.findings import Findings, Tell
from jobengine.store.migrate import has_tables, upgrade
from jobengine.store.postgresql.database import PostgresDatabase
from jobengine.store.postgresql.master_keys import Keys, has_wraps, key_rows
from jobengine.store.postgresql.sealed import SALT_BYTES, SealedContents, key_prefix
from jobengine.store.tables.audit import reseal
from jobengine.store.tables.models import job, master_key, queue
from jobengine.store.tables.prepared import Prepared

_WHAT = "sealing anew"
# What is sealed anew in one transaction: few enough that a server that wants one of them
# waits for milliseconds.
_CHUNK_JOBS = 200
_CHUNK_BYTES = 4 * 1024 * 1024
# A server goes on sealing with the old key for an instant, until it has heard of the new one.
_ROUNDS = 3

_old = func.substr(job.c.content, 1, 2, type_=LargeBinary) != bindparam("prefix")
_LEFT = select(func.count()).select_from(job).where(_old)
_NEWEST = select(func.max(job.c.id))
_NEXT = (
    select(job.c.id, func.length(job.c.content).label("size"))
    .where(job.c.id > bindparam("after"), job.c.id <= bindparam("newest"), _old)
    .order_by(job.c.id)
    .limit(_CHUNK_JOBS)
)
# A job that a server is at is left for the next round: waiting for it could be a deadlock.
_LOCKED = (
    select(job.c.id, job.c.uid, job.c.content)
    .where(job.c.id.in_(bindparam("ids", expanding=True)), _old)
    .with_for_update(skip_locked=True)
)
_ORDER = ("content", "of_job")
_UPDATE = Prepared(
    update(job).values(content=bindparam("content")).where(job.c.id == bindparam("of_job")),
    order=_ORDER,
)


def rekey_sealed(url: DatabaseUrl, secret: bytes, new_secret: bytes, tell: Tell) -> Findings | None:
    """Changes the SECRET; None where it has been changed already. Raises CannotOpen."""
    try:
        with closing(_opened(url, secret, new_secret)) as database:
            _bring_up_to_date(database)
            return SealedRekey(database, new_secret).run(tell)
    except SQLAlchemyError as error:
        reason = str(original(error)).strip()
        raise CannotOpen(f"it goes on when it is started again: {reason}") from error


def _opened(url: DatabaseUrl, secret: bytes, new_secret: bytes) -> PostgresDatabase:
    """The database, as one of its servers opens it; by the new SECRET where that is its only."""
    try:
        return PostgresDatabase(url, secret)
    except CannotOpen as refused:
        try:
            return PostgresDatabase(url, new_secret)
        except CannotOpen:
            raise refused from None


def _bring_up_to_date(database: PostgresDatabase) -> None:
    """Migrates; with no server there where theirs is a version that knows one key alone."""
    if not has_tables(database):
        raise CannotOpen(f"{database.place} holds no queues and jobs")
    with database.readers.connect() as connection:
        old_schema = not has_wraps(connection)
    if old_schema:
        database.be_alone()
    upgrade(database)


class SealedRekey:
    """The change of the SECRET of a database that one of the two opens."""

    def __init__(self, database: PostgresDatabase, new_secret: bytes) -> None:
        self._database = database
        self._new = Keys(new_secret, database.place)
        self._damaged: list[str] = []

    def run(self, tell: Tell) -> Findings | None:
        """Does all of it; None where it is done already.

        Raises CannotOpen where a server is there, and then all that is left is to start it
        again without; or where a content is damaged, and then the old key is still needed.
        """
        contents = self._join()
        if contents is None:
            self._wipe()  # what a kill may have left of the old key at the very end
            return None
        self._contents = contents
        for _ in range(_ROUNDS):
            left = self._left()
            if left == len(self._damaged):
                break
            self._seal_all(contents, left, tell)
        if self._damaged:
            Findings(damage=self._damaged).refuse(
                "the old SECRET is still needed, since these cannot be sealed anew: delete the jobs"
            )
        return self._finish()

    def _join(self) -> Contents | None:
        """Adds the new key, unless it is there already; contents of which each can be opened."""
        with self._database.writer.begin() as connection:
            connection.exec_driver_sql("LOCK TABLE master_key IN EXCLUSIVE MODE")
            rows = key_rows(connection)
            newest = rows[-1]
            if self._new.makes(newest):
                self._id = newest.id
                return None if len(rows) == 1 else self._database.contents
            return self._add(connection, rows)

    def _add(self, connection: Connection, rows: Sequence[Any]) -> Contents:
        """Adds the new key to the old ones, each sealed with the other."""
        old_keys = self._database.keys
        keys = old_keys.all(rows)
        own = max(row.id for row in rows if old_keys.makes(row))
        self._id, salt = rows[-1].id + 1, secrets.token_bytes(SALT_BYTES)
        key = self._new.derive(salt)
        new = SealedContents({self._id: key})
        for id_, old in keys.items():
            wrapped = new.wrap(id_, old)
            connection.execute(
                update(master_key).where(master_key.c.id == id_).values(wrapped=wrapped)
            )
        row = {"id": self._id, "salt": salt, "canary": new.canary()}
        row["wrapped"] = SealedContents({own: keys[own]}).wrap(self._id, key)
        connection.execute(insert(master_key).values(row))
        self._database.lock_shared(connection)  # which has the servers look for what is new
        return SealedContents({**keys, self._id: key})

    def _left(self) -> int:
        with self._database.readers.connect() as connection:
            return connection.execute(_LEFT, self._binds()).scalar_one()

    def _seal_all(self, contents: Contents, left: int, tell: Tell) -> None:
        """One round over the jobs that there are now, each chunk of which is a commit."""
        after, done = 0, 0
        self._damaged = []
        with self._database.readers.connect() as connection:
            newest = connection.execute(_NEWEST).scalar_one() or 0
        while ids := self._next(after, newest):
            with self._database.writer.begin() as connection:
                rows = connection.execute(_LOCKED, {"ids": ids, **self._binds()}).all()
                sealed = [anew for row in rows if (anew := self._anew(contents, row))]
                if sealed and _UPDATE.many(connection, sealed) != len(sealed):
                    raise StoreFailed("a job that was locked is gone")
            after, done = ids[-1], done + len(ids)
            tell(_WHAT, min(done, left), left)

    def _next(self, after: int, newest: int) -> list[int]:
        """The ids of the next jobs to be sealed anew, as many as make a chunk."""
        ids: list[int] = []
        size = 0
        with self._database.readers.connect() as connection:
            binds = {"after": after, "newest": newest, **self._binds()}
            for row in connection.execute(_NEXT, binds):
                size += row.size
                if ids and size > _CHUNK_BYTES:
                    break
                ids.append(row.id)
        return ids

    def _anew(self, contents: Contents, row: Any) -> tuple[bytes, int] | None:
        try:
            return contents.seal(row.uid, contents.open(row.uid, row.content)), row.id
        except StoreFailed as error:
            self._damaged.append(str(error))
            return None

    def _finish(self) -> Findings:
        """Drops the old key, and what the new one was sealed with it for."""
        try:
            self._database.be_alone()
        except CannotOpen as error:
            raise CannotOpen(
                f"{error}, start this again, which takes seconds, and start the servers with the "
                "new SECRET. All contents are sealed under it; until then the old one opens them, "
                "too"
            ) from error
        with self._database.writer.begin() as connection:
            if connection.execute(_LEFT, self._binds()).scalar_one():
                raise CannotOpen("a server has sealed jobs with the old key since: start it again")
            reseal(connection, self._contents)
            connection.execute(delete(master_key).where(master_key.c.id != self._id))
            connection.execute(update(master_key).values(wrapped=None))
            jobs = connection.execute(select(func.count()).select_from(job)).scalar_one()
            queues = connection.execute(select(func.count()).select_from(queue)).scalar_one()
        self._wipe()
        return Findings(jobs, queues)

    def _wipe(self) -> None:
        """Writes the table anew: the rows that were deleted still lie in its file."""
        with self._database.writer.connect() as connection:
            alone = connection.execution_options(isolation_level="AUTOCOMMIT")
            alone.exec_driver_sql("VACUUM (FULL) master_key")

    def _binds(self) -> dict[str, bytes]:
        return {"prefix": key_prefix(self._id)}
