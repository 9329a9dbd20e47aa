"""What a database error calls for, by its SQLSTATE (ISO/IEC 9075; PostgreSQL's appendix A)."""

from sqlalchemy.exc import DBAPIError

# Another holds a lock that was waited for in vain: so it would be for each operation alone.
LOCK_TIMEOUT = "55P03"
# Two transactions waited for each other, and this one was ended: it may simply run again.
DEADLOCKS = ("40P01", "40001")


# Nothing can be written: read-only; no room, no memory; a failing disk.
_CANNOT_WRITE = ("25006", "53", "58")


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


def cause(error: BaseException) -> str:
    """What the driver says is the case, with the name of SQLite's error or the SQLSTATE."""
    inner = original(error)
    said = str(inner).strip() or "a page cannot be read: see `jobengine verify`"
    code = getattr(inner, "sqlite_errorname", None) or sqlstate(inner)
    return f"{said} ({code})" if code else said
