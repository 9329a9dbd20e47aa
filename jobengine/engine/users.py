"""The users of the dashboard: added, removed, given a password."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from jobengine.domain.audit import Act, Actor
from jobengine.domain.clock import Clock
from jobengine.domain.errors import Conflict, InvalidInput, Mistake, UnknownUser
from jobengine.domain.user import USER_NAME_RULE, Role, User, is_user_name
from jobengine.store.database import Database
from jobengine.store.reads import Reads
from jobengine.store.tables import people
from jobengine.store.tables.audit import record
from jobengine.store.writing.operations import Task
from jobengine.store.writing.writer import Writer

T = TypeVar("T")


class Users:
    """The users there are. Nothing is held in memory, so each change counts at once everywhere."""

    def __init__(self, writer: Writer, reads: Reads, clock: Clock, database: Database) -> None:
        self._writer = writer
        self._reads = reads
        self._clock = clock
        self._database = database

    def all(self) -> list[User]:
        """Every user, by name. Raises StoreFailed."""
        with self._reads.connection() as connection:
            return people.all_users(connection)

    def exist(self) -> bool:
        """Whether anybody can log in. Raises StoreFailed."""
        with self._reads.connection() as connection:
            return people.any_user(connection)

    def add(self, name: str, role: Role, hash_: str, actor: Actor, *, reveal: bool = False) -> User:
        """A new user, with the hash of a password. Raises InvalidInput and Conflict."""
        if not is_user_name(name):
            raise InvalidInput([Mistake("parameter", "name", f"expected {USER_NAME_RULE}")])
        user = User(name, role, reveal, self._clock.now())
        detail = {"role": role.value, "reveal": reveal}

        def add(connection: Connection) -> User:
            if people.find_user(connection, name) is not None:
                raise Conflict(f"there is a user {name!r} already")
            people.add_user(connection, user, hash_)
            self._record(connection, Act(actor, "user.added", name, detail))
            return user

        return self._shared(add)

    def remove(self, name: str, actor: Actor) -> User:
        """Removes the user, whose sessions end. Raises UnknownUser."""

        def remove(connection: Connection) -> User:
            user = _known(connection, name)
            people.remove_user(connection, name)
            detail = {"role": user.role.value}
            self._record(connection, Act(actor, "user.removed", name, detail))
            return user

        return self._shared(remove)

    def set_password(self, name: str, hash_: str, actor: Actor) -> User:
        """Gives the user the hash of another password; their sessions end. Raises UnknownUser."""

        def set_password(connection: Connection) -> User:
            user = _known(connection, name)
            people.set_hash(connection, name, hash_)
            people.end_sessions(connection, name)
            self._record(connection, Act(actor, "user.password", name))
            return user

        return self._shared(set_password)

    def _shared(self, change: Callable[[Connection], T]) -> T:
        """Makes a change that no other server makes at the same time."""

        def run(connection: Connection) -> T:
            self._database.lock_shared(connection)
            return change(connection)

        return self._writer.submit(Task(run))

    def _record(self, connection: Connection, act: Act) -> None:
        record(connection, self._database.contents, [act], self._clock.now())


def _known(connection: Connection, name: str) -> User:
    user = people.find_user(connection, name)
    if user is None:
        raise UnknownUser(f"there is no user {name!r}")
    return user
