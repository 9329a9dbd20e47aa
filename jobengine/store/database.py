"""The seam: what the rest of the store asks of the database that it lies in."""

from collections.abc import Collection
from contextlib import AbstractContextManager, closing
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

from sqlalchemy import Connection, Engine

from jobengine.config.settings import DatabaseUrl
from jobengine.domain.clock import Clock
from jobengine.domain.errors import CannotOpen
from jobengine.store.contents import Contents
from jobengine.store.findings import Findings, Tell


class Use(Enum):
    """What a database is opened for."""

    SERVE = "to serve it, beside other servers where it can have several"
    ALONE = "to change it, with no server beside"
    LOOK = "to read it, beside a server or not"


class ControlPlace(NamedTuple):
    """A socket for commands, and the key that both ends must know."""

    path: Path
    key: bytes


class Peers(Protocol):
    """What is to be heard of the other servers on the database, from any thread."""

    def jobs_came(self, queue_ids: Collection[int] | None) -> None:
        """Jobs may have come to the queues of these ids; None for any queue."""

    def shared_changed(self) -> None:
        """What all servers go by may have changed: the queues, the keys."""


class Database(Protocol):
    """An open database. Statements are the same for each; only this differs."""

    # Where it is, without anything secret.
    place: str
    # Whether it has no tables yet and cannot be read.
    is_new: bool
    # The connection that writes, and those that cannot.
    writer: Engine
    readers: Engine
    # How the contents of jobs lie in it; there once `prepare` has been called.
    contents: Contents
    # How commands reach the process that has it to itself; None where they need not.
    control: ControlPlace | None

    def clock(self) -> Clock:
        """The clock that all the servers on it share."""

    def migrations_locked(self, connection: Connection) -> AbstractContextManager[None]:
        """Keeps other servers from migrating at the same time."""

    def migrating(self, connection: Connection) -> AbstractContextManager[None]:
        """The one transaction of a migration."""

    def prepare(self, connection: Connection) -> None:
        """Makes ready what it needs beside the newest schema, `contents` among it."""

    def lock_shared(self, connection: Connection) -> None:
        """Keeps other servers from changing what all go by until the commit, which tells them."""

    def announce_jobs(self, connection: Connection, queue_ids: Collection[int]) -> None:
        """Has the commit tell the other servers that jobs came to the queues."""

    def ids_were_copied(self, connection: Connection) -> None:
        """Makes new ids follow those that rows were inserted with."""

    def watch(self, peers: Peers) -> None:
        """Begins to listen to the other servers, and to stand for their leader."""

    def leads(self) -> bool:
        """Whether the background duties are this server's, and no other's."""

    def close(self) -> None:
        """Closes every connection."""


def open_database(place: Path | DatabaseUrl, secret: bytes, use: Use = Use.SERVE) -> Database:
    """The database. Raises CannotOpen; InUse where who must not be beside has it."""
    if isinstance(place, Path):
        from jobengine.store.sqlcipher import SqlcipherFile

        return SqlcipherFile(place, secret, use)
    _need_postgresql()
    from jobengine.store.postgresql import PostgresDatabase

    return PostgresDatabase(place, secret, use)


def check_database(place: Path | DatabaseUrl, secret: bytes, tell: Tell) -> Findings:
    """What is in a database and what is wrong with it; beside servers or not.

    Raises CannotOpen where it cannot be told at all.
    """
    if isinstance(place, Path):
        from jobengine.store.copies import existing
        from jobengine.store.integrity import check

        return check(existing(place, secret), tell)
    _need_postgresql()
    from jobengine.store.sealed_check import check_sealed

    with closing(open_database(place, secret, Use.LOOK)) as database:
        return check_sealed(database, tell)


def rekey_database(
    place: Path | DatabaseUrl, secret: bytes, new_secret: bytes, tell: Tell
) -> Findings | None:
    """Has a database open with another SECRET alone; None where it did already.

    Raises CannotOpen, and then either the old SECRET opens it as before, or both open it.
    """
    if isinstance(place, Path):
        from jobengine.store.copies import rekey

        return rekey(place, secret, new_secret, tell)
    _need_postgresql()
    from jobengine.store.sealed_rekey import rekey_sealed

    return rekey_sealed(place, secret, new_secret, tell)


def _need_postgresql() -> None:
    """Raises CannotOpen where the extra is not installed."""
    try:
        import jobengine.store.postgresql  # noqa: F401
    except ImportError as error:
        raise CannotOpen(
            f"PostgreSQL needs {error.name}: pip install 'jobengine[postgresql]'"
        ) from error
