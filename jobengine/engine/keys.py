"""The keys that services call with: made, revoked, and told from others."""

import threading
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
from sqlalchemy import Connection

from jobengine.domain.audit import Act, Actor
from jobengine.domain.clock import Clock
from jobengine.domain.errors import OutcomeUnknown, Unauthenticated, UnknownKey
from jobengine.domain.key import Key, digest_of, id_of, new_key_text
from jobengine.store.database import Database
from jobengine.store.reads import Reads
from jobengine.store.tables import api_keys as store
from jobengine.store.tables.audit import record
from jobengine.store.writing.operations import Task
from jobengine.store.writing.writer import Writer

# How many seconds the last use of a key may lie back before it is noted in the database.
_USE_SECONDS = 60
T = TypeVar("T")

# Asked where no key has the id, so that the answer takes as long.
_NOBODY = Key("", "", bytes(32), 0)
_UNKNOWN = "expected a key of this server: it has none like the one sent"


class Keys:
    """The keys there are, held in memory: a call costs one SHA-256."""

    def __init__(self, writer: Writer, reads: Reads, clock: Clock, database: Database) -> None:
        """Reads the keys."""
        self._writer = writer
        self._reads = reads
        self._clock = clock
        self._database = database
        self._by_id: Mapping[str, Key] = {}
        # Held from the look into the database until what was seen is in force.
        self._changing = threading.Lock()
        self.stale = True
        # When each was last used here, later than the database says.
        self._uses: dict[str, int] = {}
        self.reload()

    def reload(self) -> None:
        """Takes over the keys as the database has them.

        Raises StoreFailed, and is `stale` until it is called again with success.
        """
        with self._changing:
            self.stale = True
            with self._reads.connection() as connection:
                self._by_id = {key.id: key for key in store.all_keys(connection)}
            self.stale = False

    def authenticate(self, text: str) -> str:
        """The service whose key the text is. Raises Unauthenticated."""
        now = self._clock.now()
        key = self._by_id.get(id_of(text), _NOBODY)
        if not key.is_of(text) or key is _NOBODY:
            raise Unauthenticated(_UNKNOWN)
        _see_valid(key, now)
        self._uses[key.id] = now
        return key.service

    def confirm(self, id_: str) -> None:
        """Raises Unauthenticated where the key of that id, with which a call came, has ended."""
        key = self._by_id.get(id_)
        if key is None:
            raise Unauthenticated(_UNKNOWN)
        _see_valid(key, self._clock.now())

    def all(self) -> list[Key]:
        """Every key there ever was, the oldest first, as used until now."""
        uses = dict(self._uses)
        return [_used(key, uses.get(key.id)) for key in self._by_id.values()]

    def create(self, service: str, valid_for: int | None, actor: Actor) -> tuple[Key, str]:
        """A new key of the service, valid for so many seconds or for ever, and its text.

        The text is kept nowhere.
        """
        text, now = new_key_text(), self._clock.now()
        expires = None if valid_for is None else now + valid_for
        key = Key(id_of(text), service, digest_of(text), now, expires)
        act = Act(actor, "key.created", key.id, {"service": service, "expires": expires})

        def create(connection: Connection) -> None:
            self._database.lock_shared(connection)
            store.add_key(connection, key)
            record(connection, self._database.contents, [act], now)

        self._change(Task(create, then=lambda _: self._take_over(key)))
        return key, text

    def revoke(self, id_: str, actor: Actor) -> Key:
        """Revokes the key; from here on no call is made with it. Raises UnknownKey."""
        now = self._clock.now()

        def revoke(connection: Connection) -> Key | None:
            self._database.lock_shared(connection)
            key = store.revoke_key(connection, id_, now)
            if key is not None and key.revoked is None:
                act = Act(actor, "key.revoked", id_, {"service": key.service})
                record(connection, self._database.contents, [act], now)
            return key

        def take_over(key: Key | None) -> None:
            if key is not None and key.revoked is None:
                self._take_over(msgspec.structs.replace(key, revoked=now))

        key = self._change(Task(revoke, then=take_over))
        if key is None:
            raise UnknownKey(f"there is no key {id_!r}")
        return key

    def _change(self, task: Task[T]) -> T:
        """Has the task done; what it changes is in force before the writer's next batch."""
        with self._changing:
            try:
                return self._writer.submit(task)
            except OutcomeUnknown:
                self.stale = True  # a duty reads what came of it
                raise

    def _take_over(self, key: Key) -> None:
        """Goes by the key from now on, whether or not the database can be read just now."""
        self._by_id = {**self._by_id, key.id: key}

    def unnoted_uses(self) -> dict[str, int]:
        """The uses that the database is to be told of."""
        uses = dict(self._uses)
        return {
            key.id: uses[key.id]
            for key in self._by_id.values()
            if key.id in uses and uses[key.id] - (key.last_used or 0) >= _USE_SECONDS
        }

    def note_uses(self, uses: Mapping[str, int]) -> None:
        """Tells the database of uses."""
        self._writer.submit(Task(lambda connection: store.note_uses(connection, uses)))
        self.reload()


def _see_valid(key: Key, now: int) -> None:
    if not key.valid(now):
        state = "expired" if key.revoked is None else "was revoked"
        raise Unauthenticated(f"the key {key.id} {state}")


def _used(key: Key, time: int | None) -> Key:
    if time is None or time <= (key.last_used or 0):
        return key
    return msgspec.structs.replace(key, last_used=time)


def valid_keys(keys: Sequence[Key], now: int) -> int:
    """How many of the keys may be called with."""
    return sum(key.valid(now) for key in keys)
