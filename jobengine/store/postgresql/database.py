"""PostgreSQL: its key, and what its servers share."""

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
import structlog
from sqlalchemy import Connection, bindparam, func, insert, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from jobengine.config.settings import DatabaseUrl
from jobengine.domain.clock import Clock, SteeredSource, SystemClock
from jobengine.domain.errors import CannotOpen, InUse, StoreFailed
from jobengine.store.contents import Contents
from jobengine.store.damage import Damage
from jobengine.store.database import ControlPlace, Peers, Use
from jobengine.store.failures import FailureLog, original
from jobengine.store.migrate import refuse_foreign
from jobengine.store.postgresql.link import (
    Link,
    jobs_payload,
    measure,
    shared_payload,
)
from jobengine.store.postgresql.master_keys import Keys, key_rows
from jobengine.store.postgresql.requirements import check_requirements, check_schema
from jobengine.store.postgresql.scope import scope_of
from jobengine.store.postgresql.sealed import SALT_BYTES, SealedContents
from jobengine.store.postgresql.sessions import Sessions
from jobengine.store.tables.audit import begin as begin_trail
from jobengine.store.tables.models import job, master_key, queue
from jobengine.store.tables.prepared import Prepared
from jobengine.threads import ServiceThread

# A claim steps over the index entries of jobs that were claimed since the last vacuum.
_VACUUM_SOON = (
    "ALTER TABLE job SET"
    " (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000)"
)
_NEWEST_KEY = select(func.max(master_key.c.id))
_NOTIFY = Prepared(select(func.pg_notify(bindparam("channel"), bindparam("payload"))))

_log = structlog.get_logger(component="store")


class _KeysToo:
    """Peers; with the queues, the keys of the contents may have changed, too."""

    def __init__(self, peers: Peers, learn_keys: Callable[[], None]) -> None:
        self.jobs_came = peers.jobs_came
        self._peers, self._learn_keys = peers, learn_keys

    def shared_changed(self) -> None:
        """See Peers."""
        self._learn_keys()
        self._peers.shared_changed()


class PostgresDatabase:
    """A database that servers share.

    Contents are sealed before they come here (sealed.py); names, times and priorities
    are stored in the clear.
    """

    is_new = False
    contents: Contents
    control: ControlPlace | None = None

    def __init__(self, url: DatabaseUrl, secret: bytes, use: Use = Use.SERVE) -> None:
        """Connects, and checks the SECRET where the database has seen one. Changes nothing.

        Raises CannotOpen.
        """
        self._sessions = sessions = Sessions(url)
        self.kind = "PostgreSQL"
        self.place, self.writer, self.readers = sessions.place, sessions.writer, sessions.readers
        self.keys = Keys(secret, self.place)
        self._source = SteeredSource()
        self._token = secrets.token_hex(8)
        self.damage = Damage()
        self._link: Link | None = None
        self._failures = FailureLog("the keys of the contents could not be read")
        self._held: psycopg.Connection[Any] | None = None
        try:
            self._enter(use)
            with self.readers.connect() as connection:
                self._check(connection)
        except (SQLAlchemyError, psycopg.Error) as error:
            self.close()
            reason = str(original(error)).strip()
            raise CannotOpen(f"{self.place} cannot be opened: {reason}") from error
        except CannotOpen:
            self.close()
            raise

    def clock(self) -> Clock:
        """The database's clock, or servers would fail each other's jobs."""
        return SystemClock(self._source)

    @contextmanager
    def migrations_locked(self, connection: Connection) -> Iterator[None]:
        """See Database."""
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")  # a migration takes its time
        connection.execute(select(func.pg_advisory_lock(self._scope.migrating)))
        connection.commit()
        try:
            yield
        finally:
            connection.rollback()
            connection.execute(select(func.pg_advisory_unlock(self._scope.migrating)))
            connection.commit()

    @contextmanager
    def migrating(self, connection: Connection) -> Iterator[None]:
        """See Database."""
        connection.rollback()
        with connection.begin():
            yield

    def prepare(self, connection: Connection) -> None:
        """Finds the master key of the SECRET, or makes the first one. Raises CannotOpen."""
        connection.rollback()
        with connection.begin():
            if not self._find_key(connection):
                if connection.execute(select(job.c.id).limit(1)).first() is not None:
                    raise CannotOpen(f"{self.place} holds jobs, but not the key of their contents")
                salt = secrets.token_bytes(SALT_BYTES)
                self._use({1: self.keys.derive(salt)})
                row = {"id": 1, "salt": salt, "canary": self._sealed.canary()}
                connection.execute(insert(master_key).values(row))
                begin_trail(connection, self.contents)
                connection.exec_driver_sql(_VACUUM_SOON)

    def lock_shared(self, connection: Connection) -> None:
        """See Database."""
        connection.execute(select(func.pg_advisory_xact_lock(self._scope.shared)))
        self._notify(connection, shared_payload(self._token))

    def announce_jobs(self, connection: Connection, queue_ids: Collection[int]) -> None:
        """See Database."""
        self._notify(connection, jobs_payload(self._token, queue_ids))

    def ids_were_copied(self, connection: Connection) -> None:
        """See Database."""
        for table in (queue, job):
            sequence = func.pg_get_serial_sequence(table.name, "id")
            newest = select(func.max(table.c.id)).scalar_subquery()
            connection.execute(select(func.setval(sequence, newest)))

    def watch(self, peers: Peers) -> None:
        """See Database."""
        hearing = _KeysToo(peers, self._learn_keys)
        connect = self._sessions.connect
        self._link = Link(connect, self._source, hearing, self._token, self._scope)
        self._link.start()

    def threads(self) -> list[ServiceThread]:
        """The link's."""
        return [] if self._link is None else [self._link.thread]

    def check(self) -> None:
        """Nothing to look at: who has lost the database learns it from its connections."""

    def sizes(self) -> dict[str, int]:
        """See Database."""
        with self.readers.connect() as connection:
            size = func.pg_database_size(func.current_database())
            return {"database": connection.execute(select(size)).scalar_one()}

    def leads(self) -> bool:
        """See Database."""
        return self._link is not None and self._link.leads

    def close(self) -> None:
        """See Database."""
        if self._link is not None:
            self._link.stop()
        if self._held is not None:
            self._held.close()
        self._sessions.close()

    def be_alone(self) -> None:
        """Keeps servers away until it is closed; it was opened as one of them.

        Raises CannotOpen where there is another.
        """
        if self._held is None or not self._scope.wait_for(self._held, alone=True):
            raise CannotOpen(f"{self.place} is in use by a server: stop every server on it first")

    def _enter(self, use: Use) -> None:
        """Sees that it can be used, and that servers and who is alone keep away from each other."""
        self._held = connection = self._sessions.connect()
        writes = use is not Use.LOOK
        check_requirements(connection, self._sessions.connect, self.place, writes=writes)
        self._scope = scope_of(connection, self.place)
        check_schema(connection, self.place, writes=writes)
        # It holds the lock for as long as it is open; a server's link takes a share of its
        # own, and again whenever it has to connect anew.
        alone = use is Use.ALONE
        if writes and not self._scope.wait_for(connection, alone=alone):
            raise InUse(
                f"{self.place} is in use by a server: stop every server on it first"
                if alone
                else f"{self.place} is in use by another command: wait for its end"
            )

    def _notify(self, connection: Connection, payload: str) -> None:
        with _NOTIFY.cursor(connection, {"channel": self._scope.channel, "payload": payload}):
            pass

    def _check(self, connection: Connection) -> None:
        refuse_foreign(connection, self.place)
        measure(_driver_connection(connection), self._source)
        if connection.exec_driver_sql("SHOW fsync").scalar_one() == "off":
            _log.warning("the database has fsync off: what is acknowledged may be lost")
        if inspect(connection).has_table(master_key.name):
            self._find_key(connection)

    def _find_key(self, connection: Connection) -> bool:
        """Whether the database has a master key, which must be the SECRET's."""
        keys = self.keys.all(key_rows(connection))
        if keys:
            self._use(keys)
        return bool(keys)

    def _use(self, keys: Mapping[int, bytes]) -> None:
        self.contents = self._sealed = SealedContents(keys, self._keys_by_now)

    def _learn_keys(self) -> None:
        """Finds a key that came since the start, to seal with from now on."""
        try:
            with self.readers.connect() as connection:
                newest = connection.execute(_NEWEST_KEY).scalar_one()
            if newest != self._sealed.newest:
                self._sealed.look_for_keys()
        except (SQLAlchemyError, StoreFailed) as error:
            _log.info("the keys could not be read again", reason=str(original(error)))

    def _keys_by_now(self) -> dict[int, bytes]:
        """All keys, where a content is sealed with one that was not there at the start."""
        try:
            # None of the pool's, of which the callers may hold all.
            with self.writer.connect() as connection:
                return self.keys.all(key_rows(connection))
        except (SQLAlchemyError, CannotOpen) as error:
            self._failures.log(error)
            raise StoreFailed("the keys of the contents could not be read") from error


def _driver_connection(connection: Connection) -> Any:
    return connection.connection.driver_connection
