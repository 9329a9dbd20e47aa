"""The SQLCipher file of one server: the connection that writes, and those that read."""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool, StaticPool
from sqlcipher3 import dbapi2 as sqlcipher

from jobengine.domain.clock import Clock, SystemClock
from jobengine.domain.errors import CannotOpen, reason
from jobengine.store.contents import Contents, Plain
from jobengine.store.damage import Damage
from jobengine.store.database import ControlPlace, Peers, Use
from jobengine.store.failures import cause
from jobengine.store.sqlcipher.cipher import HEAD_BYTES, CipherFile, assert_encrypted
from jobengine.store.sqlcipher.epoch import begin_epoch, note_on_log, refuse_foreign_log
from jobengine.store.sqlcipher.files import beside, log_bytes
from jobengine.store.sqlcipher.lock import StoreLock, note_beside, settle
from jobengine.store.sqlcipher.watch import Watch
from jobengine.threads import ServiceThread

# What the key of the socket for commands is made for, from the key of the file.
_CONTROL = b"jobengine control"
# Two cores of decryption at once, with some to spare for those that wait on the GIL.
_READERS = 8
# Decrypted pages kept by the connection that writes, and by each that reads. Among a
# million jobs of mixed priorities each claim is on a page of its own.
_WRITER_CACHE_KIB = 64 * 1024
_READER_CACHE_KIB = 4 * 1024
# How long a stop waits for who reads the log; a backup may do that for minutes.
_STOP_MILLISECONDS = 1000
# What is left of the -wal when a checkpoint has emptied it after a burst of writes.
_LOG_BYTES = 64 * 1024 * 1024

_log = structlog.get_logger(component="store")


class SqlcipherFile:
    """An encrypted database file, with its key already derived.

    PBKDF2 takes some 200 ms, so it runs once here and not for each connection. The file
    belongs to this process until it is closed. Raises CannotOpen where it belongs to
    another, is a plain SQLite database, or the SECRET does not open it; nothing is
    written in either case.
    """

    def __init__(self, path: Path, secret: bytes, use: Use = Use.SERVE) -> None:
        self.path = path
        self.kind = "SQLCipher, one encrypted file"
        self.place = str(path)
        self.contents: Contents = Plain()
        self.damage = Damage()
        self._looks = use is Use.LOOK
        self._lock = self._take_lock(use)
        self._watch: Watch | None = None  # there once the file is
        self._kept: Any = None
        try:
            self._open(secret)
        except BaseException:
            self._let_go()
            raise

    def _take_lock(self, use: Use) -> StoreLock | None:
        """The lock; none where it may only be looked at, and a server has it or it is not there."""
        if use is not Use.LOOK:
            return StoreLock(self.path)
        settle(self.path)
        if not self.path.exists():
            return None
        with suppress(CannotOpen):
            return StoreLock(self.path)
        return None

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _open(self, secret: bytes) -> None:
        self._file = CipherFile(self.path, secret)
        self.is_new = self._file.is_new
        refuse_foreign_log(self._file, self._lock.note if self._lock else note_beside(self.path))
        self.control: ControlPlace | None = ControlPlace(
            beside(self.path, ".sock"), self._file.key_for(_CONTROL)
        )
        # The single connection that writes, and checkpoints. A second one would meet the
        # WAL-reset bug of the SQLite 3.51.1 in sqlcipher3-binary 0.6.0, which needs two
        # connections that write or checkpoint.
        self.writer = self._engine(self._open_writer, poolclass=StaticPool)
        # IMMEDIATE takes the write lock at once: no read turns stale before its write.
        event.listen(self.writer, "begin", self._begin_write)
        # The connections that cannot write. One snapshot for all that a reader reads
        # before it gives its connection back.
        self.readers = self._engine(
            self._open_reader, poolclass=QueuePool, pool_size=_READERS, max_overflow=0
        )
        event.listen(self.readers, "begin", lambda c: c.exec_driver_sql("BEGIN"))

    def close(self) -> None:
        """Closes every connection, with the log checkpointed into the file and emptied.

        A log that cannot be emptied stays beside the file, which is logged; the next
        start finds it.
        """
        moved = self._watch is not None and self._watch.ends_moved()
        self.readers.dispose()
        if self._kept is not None:  # it was served
            self._kept.close()
            if not moved:
                self._empty_log()
        # Where the file was moved, SQLite leaves it and the log as they are; where the log was
        # removed, it has the file take in what the server still knew of it.
        self.writer.dispose()
        self._let_go()

    def _empty_log(self) -> None:
        try:
            connection = self.writer.raw_connection()
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {_STOP_MILLISECONDS}")
            (busy, *_), *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if busy:
                _log.warning("the log is being read, by a backup perhaps; it is kept")
            connection.close()
        except (SQLAlchemyError, sqlcipher.Error, CannotOpen):
            _log.exception("the log could not be emptied into the database; it is kept")

    def clock(self) -> Clock:
        """The machine's."""
        return SystemClock()

    def migrations_locked(self, _connection: Connection) -> AbstractContextManager[None]:
        """Nothing to do: the file belongs to this process."""
        return nullcontext()

    @contextmanager
    def migrating(self, connection: Connection) -> Iterator[None]:
        """One transaction, with foreign keys checked at its end instead of on the way.

        A batch_alter_table makes a table anew and drops the old one, which under
        enforced foreign keys would take the rows that refer to it along.
        """
        driver: Any = connection.connection.driver_connection
        connection.rollback()  # the pragma does nothing inside a transaction
        driver.execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                yield
                orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                if orphans:
                    raise RuntimeError(
                        f"the migration leaves {len(orphans)} rows without what they refer to"
                    )
        finally:
            driver.execute("PRAGMA foreign_keys = ON")

    def prepare(self, connection: Connection) -> None:
        """Has the file take in the log that it was found with, and begins a log of its own.

        A log that is read after a sync failed may be in the system's memory alone, so that
        what is synced behind it would not survive a crash: in the file it is written anew. And
        where the writer's connection was the last one, the next would read the log like that,
        with commits in it that were told as failed; so a connection is kept.

        Raises CannotOpen where the file cannot be written.
        """
        connection.rollback()  # no checkpoint is made inside a transaction
        driver: Any = connection.connection.driver_connection
        if log_bytes(self.path):  # a checkpoint of none would give the next one no random salt
            self._checkpoint(driver)
        try:
            self._begin_log(driver)
        except sqlcipher.Error as error:
            raise CannotOpen(f"{self.path} cannot be written: {cause(error)}") from error
        except OSError as error:
            raise CannotOpen(
                f"{beside(self.path, '.lock')} cannot be written: {reason(error)}"
            ) from error
        self._kept = self._kept or self._open_reader()

    def _begin_log(self, driver: Any) -> None:
        """Begins an epoch, which is in the file before the log is noted to be of it."""
        assert self._lock is not None  # noqa: S101  the writer's connection is there
        assert self._watch is not None  # noqa: S101  likewise
        self._lock.note = ""
        epoch = begin_epoch(driver)
        note = note_on_log(self.path, epoch)
        self._watch.begin_log()
        if self._checkpoint(driver):
            self._lock.note = note

    def _checkpoint(self, driver: Any) -> bool:
        """Empties the log into the file; whether all of it is there now."""
        try:
            (busy, *_), *_ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlcipher.Error:
            _log.exception("the log could not be emptied into the database; it is kept")
            return False
        return not busy

    def lock_shared(self, _connection: Connection) -> None:
        """Nothing to do: there is no other server."""

    def announce_jobs(self, _connection: Connection, _queue_ids: Collection[int]) -> None:
        """Nothing to do: there is nobody to hear it."""

    def ids_were_copied(self, _connection: Connection) -> None:
        """Nothing to do: SQLite counts on from the highest."""

    def watch(self, _peers: Peers) -> None:
        """Nothing to do: there is nothing to hear."""

    def threads(self) -> list[ServiceThread]:
        """None: there are no other servers to follow."""
        return []

    def check(self) -> None:
        """See Database."""
        if self._watch is not None:
            self._watch.look()

    def sizes(self) -> dict[str, int]:
        """See Database."""
        parts = {"file": self.path, "write-ahead log": beside(self.path, "-wal")}
        return {part: path.stat().st_size for part, path in parts.items() if path.exists()}

    def leads(self) -> bool:
        """Always: there is no other server."""
        return True

    def _engine(self, creator: Any, **pool: Any) -> Engine:
        # The plain pysqlite dialect: the pysqlcipher one's pool closes connections in use.
        return create_engine(
            "sqlite+pysqlite://",
            module=sqlcipher,
            creator=creator,
            hide_parameters=True,  # an error must not show a payload
            **pool,
        )

    def _begin_write(self, connection: Connection) -> None:
        self.check()
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def _open_writer(self) -> Any:
        assert self._lock is not None  # noqa: S101  who only looks has no writer
        held = self._lock.hold()
        self._watch = self._watch or Watch(self.path, held.identity)
        connection = self._connect()
        # WAL with FULL fsyncs the log at each commit: what is acknowledged is on disk.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        assert_encrypted(self.path, held.head(HEAD_BYTES))
        return connection

    def _open_reader(self) -> Any:
        connection = self._file.connect_to_look() if self._looks else self._connect()
        connection.execute("PRAGMA query_only = ON")
        connection.execute(f"PRAGMA cache_size = -{_READER_CACHE_KIB}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    def _connect(self) -> Any:
        """A connection, which is never to files that were put where the server's own were."""
        if self._watch is not None:
            self._watch.look_now()
        return self._file.connect()
