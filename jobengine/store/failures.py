"""What a database error calls for, by its SQLSTATE (ISO/IEC 9075; PostgreSQL's appendix A)."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

T = TypeVar("T")

# Another holds a lock that was waited for in vain: so it would be for each operation alone.
LOCK_TIMEOUT = "55P03"
# Two transactions waited for each other, and this one was ended: it may simply run again.
DEADLOCKS = ("40P01", "40001")


# What lies in a table cannot be read, such as a long value of which PostgreSQL lacks a part.
_DATA_CORRUPTED = "XX001"
# Nothing can be written: read-only; no room, no memory; a failing disk.
_CANNOT_WRITE = ("25006", "53", "58")

# Between two log lines about one kind of failure.
_LOG_SECONDS = 1.0

_log = structlog.get_logger(component="store")


class FailureLog:
    """Logs why the database failed, once a second at most: while it is away each call fails."""

    def __init__(self, event: str, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._event = event
        self._elapsed = elapsed
        self._logged = float("-inf")

    def log(self, error: BaseException) -> None:
        """Logs the cause, as the driver has it and without any value."""
        now = self._elapsed()
        if now - self._logged < _LOG_SECONDS:
            return
        self._logged = now
        cause = original(error)
        # Its first line: PostgreSQL quotes values in those that follow.
        reason = str(cause).strip().partition("\n")[0]
        _log.warning(self._event, error=type(cause).__name__, reason=reason)


def is_damage(error: BaseException) -> bool:
    """Whether the database found what it read to be damaged, and goes on beside that."""
    return sqlstate(error) == _DATA_CORRUPTED


def concerns_all(error: BaseException) -> bool:
    """Whether every other operation would meet the same error, too."""
    state = sqlstate(error)
    return state == LOCK_TIMEOUT or state.startswith(_CANNOT_WRITE)


def may_be_done(error: BaseException) -> bool:
    """Whether a commit that met the error may have been made all the same.

    A database that was lost at the commit says neither. SQLite writes a commit to its log
    before it syncs that: where the sync fails, a crash before the next commit, which is written
    over it, has the next start find it.
    """
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    # The driver does not tell a failed sync from a failed write.
    return lost or getattr(original(error), "sqlite_errorname", "").startswith("SQLITE_IOERR")


def original(error: BaseException) -> BaseException:
    """What the driver raised, without what SQLAlchemy wraps around it."""
    inner = error.orig if isinstance(error, DBAPIError) else None
    return inner if inner is not None else error


def sqlstate(error: BaseException | None) -> str:
    """The error's code; nothing where it has none, as on SQLite."""
    return "" if error is None else str(getattr(original(error), "sqlstate", None) or "")


def or_bare(connection: Connection, whole: Callable[[], T], bare: Callable[[], T]) -> T:
    """What `whole` reads; where one of the contents is damaged, `bare`, which reads none.

    It sees the database anew: the transaction of `whole` has failed.
    """
    try:
        return whole()
    except Exception as error:
        if not is_damage(error):
            raise
        connection.rollback()
        connection.connection.rollback()  # of statements that SQLAlchemy does not know of
        return bare()
