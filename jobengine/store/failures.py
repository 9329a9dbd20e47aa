"""What a database error calls for.

PostgreSQL's are known by their SQLSTATE (ISO/IEC 9075; PostgreSQL's appendix A), SQLite's by
their names (https://www.sqlite.org/rescode.html).
"""

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
# The same, and a lock that another process holds. SQLITE_IOERR and others have longer names, too.
_SQLITE_CANNOT_WRITE = (
    "SQLITE_AUTH",
    "SQLITE_BUSY",
    "SQLITE_CANTOPEN",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_LOCKED",
    "SQLITE_NOLFS",
    "SQLITE_PERM",
    "SQLITE_PROTOCOL",
    "SQLITE_READONLY",
)

# A page is not as it was written. Whoever does not read it does not notice.
_DAMAGE = (_DATA_CORRUPTED, "XX002")
_SQLITE_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")

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


def damages_one_value(error: BaseException) -> bool:
    """Whether PostgreSQL could not read one value, and reads the others."""
    return sqlstate(error) == _DATA_CORRUPTED


def concerns_all(error: BaseException) -> bool:
    """Whether every other operation would meet the same error, too."""
    state = sqlstate(error)
    cannot_write = state == LOCK_TIMEOUT or state.startswith(_CANNOT_WRITE)
    return cannot_write or _sqlite_name(error).startswith(_SQLITE_CANNOT_WRITE)


def is_damage(error: BaseException) -> bool:
    """Whether the error says that a page is damaged."""
    # SQLCipher's for a page that it cannot decrypt.
    cannot_decrypt = isinstance(original(error), MemoryError)
    damaged = sqlstate(error) in _DAMAGE or _sqlite_name(error).startswith(_SQLITE_DAMAGE)
    return cannot_decrypt or damaged


def may_be_done(error: BaseException) -> bool:
    """Whether a commit that met the error may have been made all the same.

    A database that was lost at the commit says neither. SQLite writes a commit to its log
    before it syncs that: where the sync fails, a crash before the next commit, which is written
    over it, has the next start find it.
    """
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    # The driver does not tell a failed sync from a failed write.
    return lost or _sqlite_name(error).startswith("SQLITE_IOERR")


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
        if not damages_one_value(error):
            raise
        connection.rollback()
        connection.connection.rollback()  # of statements that SQLAlchemy does not know of
        return bare()


def cause(error: BaseException) -> str:
    """What the driver says is the case, with the name of SQLite's error or the SQLSTATE."""
    inner = original(error)
    said = str(inner).strip() or type(inner).__name__
    if isinstance(inner, MemoryError):
        said = "a page cannot be read, or there is no memory left: see `jobengine verify`"
    code = _sqlite_name(error) or sqlstate(error)
    return f"{said} ({code})" if code else said


def _sqlite_name(error: BaseException) -> str:
    return getattr(original(error), "sqlite_errorname", None) or ""
