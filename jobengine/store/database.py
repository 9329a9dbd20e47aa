"""The seam: what the rest of the store asks of the database that it lies in."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

from sqlalchemy import Connection, Engine

from jobengine.domain.clock import Clock
from jobengine.store.contents import Contents
from jobengine.store.damage import Damage
from jobengine.threads import ServiceThread


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

    # What it is, in words.
    kind: str
    # Where it is, without anything secret.
    place: str
    # Whether it has no tables yet and cannot be read.
    is_new: bool
    # The connection that writes, and those that cannot.
    writer: Engine
    readers: Engine
    # How the contents of jobs lie in it; there once `prepare` has been called.
    contents: Contents
    # What was met of damage in it.
    damage: Damage
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

    def threads(self) -> list[ServiceThread]:
        """Those that serving it needs."""

    def check(self) -> None:
        """Raises StoreFailed where what was opened is no longer what is there.

        Each write looks, too, so this is for a server that has none. It costs nothing much.
        """

    def sizes(self) -> dict[str, int]:
        """How many bytes its parts have, by what they are called."""

    def leads(self) -> bool:
        """Whether the background duties are this server's, and no other's."""

    def close(self) -> None:
        """Closes every connection."""
