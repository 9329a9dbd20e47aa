"""Which kind of database a place names, and what is done with a whole one."""

import os
from contextlib import closing
from pathlib import Path

from jobengine.config.settings import DatabaseUrl
from jobengine.domain.errors import CannotOpen
from jobengine.store.database import Database, Use
from jobengine.store.findings import Findings, Tell
from jobengine.store.migrate import refuse_foreign
from jobengine.store.sqlcipher.copies import existing, rekey
from jobengine.store.sqlcipher.database import SqlcipherFile
from jobengine.store.sqlcipher.integrity import check


def open_database(place: Path | DatabaseUrl, secret: bytes, use: Use = Use.SERVE) -> Database:
    """The database. Raises CannotOpen; InUse where who must not be beside has it."""
    if isinstance(place, Path):
        return _own(SqlcipherFile(place, secret, use))
    _need_postgresql()
    from jobengine.store.postgresql.database import PostgresDatabase

    return PostgresDatabase(place, secret, use)


def _own(file: SqlcipherFile) -> SqlcipherFile:
    """The file, unless its tables are another application's: then it is closed and refused."""
    try:
        if not file.is_new:
            with file.readers.connect() as connection:
                refuse_foreign(connection, file.place)
    except BaseException:
        file.close()
        raise
    return file


def is_read_only(place: Path | DatabaseUrl) -> bool:
    """Whether a file is in a folder that this process cannot write to: a snapshot, mounted."""
    return isinstance(place, Path) and not os.access(place.parent, os.W_OK)


def check_database(place: Path | DatabaseUrl, secret: bytes, tell: Tell) -> Findings:
    """What is in a database and what is wrong with it; beside servers or not.

    Raises CannotOpen where it cannot be told at all.
    """
    if isinstance(place, Path):
        return check(existing(place, secret), tell)
    _need_postgresql()
    from jobengine.store.postgresql.check import check_sealed

    with closing(open_database(place, secret, Use.LOOK)) as database:
        return check_sealed(database, tell)


def rekey_database(
    place: Path | DatabaseUrl, secret: bytes, new_secret: bytes, tell: Tell
) -> Findings | None:
    """Has a database open with another SECRET alone; None where it did already.

    Raises CannotOpen, and then either the old SECRET opens it as before, or both open it.
    """
    if isinstance(place, Path):
        return rekey(place, secret, new_secret, tell)
    _need_postgresql()
    from jobengine.store.postgresql.rekey import rekey_sealed

    return rekey_sealed(place, secret, new_secret, tell)


def _need_postgresql() -> None:
    """Raises CannotOpen where the extra is not installed."""
    try:
        import jobengine.store.postgresql.database  # noqa: F401
    except ImportError as error:
        raise CannotOpen(
            f"PostgreSQL needs {error.name}: pip install 'jobengine[postgresql]'"
        ) from error
