"""What a whole PostgreSQL database shares, kept apart for each schema: locks and a channel."""

import time
from typing import Any, LiteralString

import psycopg

from jobengine.domain.errors import CannotOpen

# The keys of advisory locks in the schema public: any numbers that stay the same.
_MIGRATING, _SHARED, _LEADER, _SERVING = range(0x6A6F6200, 0x6A6F6204)
_CHANNEL = "jobengine"
_SCHEMA = "SELECT oid::bigint, nspname FROM pg_namespace WHERE nspname = current_schema()"
# A session that has ended holds its locks until its process has noticed, on a busy machine for
# a second or more.
_ENDING_SECONDS = 5.0
_LOOK_SECONDS = 0.05


class Scope:
    """The keys of the advisory locks, and the channel, of the JobEngine in one schema.

    Each server holds a share of `serving`, the leader all of `leader`, for as long as it is
    connected; `migrating` is held for a migration, `shared` for a transaction.
    """

    def __init__(self, oid: int = 0) -> None:
        """`oid` is the schema's; 0 for public, whose numbers never change between versions."""
        self.migrating, self.shared, self.leader, self.serving = (
            _signed(oid << 32 | number) for number in (_MIGRATING, _SHARED, _LEADER, _SERVING)
        )
        self.channel = f"{_CHANNEL}_{oid}" if oid else _CHANNEL

    def take_shared(self, connection: "psycopg.Connection[Any]") -> bool:
        """Holds the schema as a server, with others; False where a command has it alone."""
        return _took(connection, "SELECT pg_try_advisory_lock_shared(%s)", self.serving)

    def take_alone(self, connection: "psycopg.Connection[Any]") -> bool:
        """Holds the schema alone; False where a server or a command has it."""
        return _took(connection, "SELECT pg_try_advisory_lock(%s)", self.serving)

    def wait_for(self, connection: "psycopg.Connection[Any]", *, alone: bool) -> bool:
        """As `take_alone` or `take_shared`, and waits for sessions that are just ending.

        It asks again and again: in the queue for the lock it would keep servers away meanwhile.
        """
        take = self.take_alone if alone else self.take_shared
        deadline = time.monotonic() + _ENDING_SECONDS
        while not take(connection):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def lead(self, connection: "psycopg.Connection[Any]") -> bool:
        """Becomes the leader for as long as it is connected; False where there is another."""
        return _took(connection, "SELECT pg_try_advisory_lock(%s)", self.leader)


def scope_of(connection: "psycopg.Connection[Any]", place: str) -> Scope:
    """The scope of the schema that the connection creates tables in. Raises CannotOpen."""
    row = connection.execute(_SCHEMA).fetchone()
    if row is None:
        shown = connection.execute("SHOW search_path").fetchone()
        raise CannotOpen(
            f"{place} has no schema to work in: search_path is {shown and shown[0]}, and the user "
            f"{connection.info.user} may use none of these: CREATE SCHEMA, or GRANT USAGE on one"
        )
    oid, name = row
    return PUBLIC if name == "public" else Scope(oid)


def _took(connection: "psycopg.Connection[Any]", statement: LiteralString, key: int) -> bool:
    row = connection.execute(statement, (key,)).fetchone()
    return row is not None and bool(row[0])


def _signed(key: int) -> int:
    """The key as PostgreSQL's bigint."""
    return key - (1 << 64) if key >> 63 else key


PUBLIC = Scope()
