"""What commands may have done, as messages: beside a server, or by one that has the file.

A file belongs to one process. A command that is to change something in it asks that
process (control.py), and does it itself where there is none, in either case from here.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, cast

import msgspec

from jobengine.domain.audit import Actor
from jobengine.domain.errors import JobEngineError
from jobengine.domain.key import Key
from jobengine.domain.user import Role, User
from jobengine.engine.keys import Keys
from jobengine.engine.users import Users

T = TypeVar("T")


class KeyShown(msgspec.Struct, frozen=True, tag=True):
    """A key as it is listed, and its text where it has just been made."""

    id: str
    service: str
    created: int
    expires: int | None
    revoked: int | None
    last_used: int | None
    text: str = ""


class UserShown(msgspec.Struct, frozen=True, tag=True):
    """A user as they are listed."""

    name: str
    role: Role
    reveal: bool
    created: int


class Offices(NamedTuple):
    """Who does what is asked for."""

    keys: Keys
    users: Users


class Request(msgspec.Struct, Generic[T], frozen=True):
    """Something to be done, answered with what it is about, as it is then."""

    # Whether it is worth a new database where there is none.
    makes_database: ClassVar[bool] = False

    def done_by(self, offices: Offices) -> list[T]:
        """Has it done. Raises JobEngineError."""
        raise NotImplementedError


class CreateKey(Request[KeyShown], frozen=True, tag=True):
    """Makes a key for a service, valid for so many seconds or for ever."""

    makes_database = True

    actor: Actor
    service: str
    valid_for: int | None

    def done_by(self, offices: Offices) -> list[KeyShown]:
        """The key, with its text."""
        key, text = offices.keys.create(self.service, self.valid_for, self.actor)
        return [_key(key, text)]


class RevokeKey(Request[KeyShown], frozen=True, tag=True):
    """Revokes the key of an id."""

    actor: Actor
    id: str

    def done_by(self, offices: Offices) -> list[KeyShown]:
        """The key as it was before."""
        return [_key(offices.keys.revoke(self.id, self.actor))]


class ListKeys(Request[KeyShown], frozen=True, tag=True):
    """Lists every key there ever was."""

    def done_by(self, offices: Offices) -> list[KeyShown]:
        """The keys, the oldest first."""
        return [_key(key) for key in offices.keys.all()]


class AddUser(Request[UserShown], frozen=True, tag=True):
    """Adds a user, with the hash of a password, which itself goes nowhere."""

    makes_database = True

    actor: Actor
    name: str
    role: Role
    reveal: bool
    hash: str

    def done_by(self, offices: Offices) -> list[UserShown]:
        """The user."""
        added = offices.users.add(self.name, self.role, self.hash, self.actor, reveal=self.reveal)
        return [_user(added)]


class RemoveUser(Request[UserShown], frozen=True, tag=True):
    """Removes a user, whose sessions end."""

    actor: Actor
    name: str

    def done_by(self, offices: Offices) -> list[UserShown]:
        """The user as they were."""
        return [_user(offices.users.remove(self.name, self.actor))]


class SetPassword(Request[UserShown], frozen=True, tag=True):
    """Gives a user the hash of another password; their sessions end."""

    actor: Actor
    name: str
    hash: str

    def done_by(self, offices: Offices) -> list[UserShown]:
        """The user."""
        return [_user(offices.users.set_password(self.name, self.hash, self.actor))]


class ListUsers(Request[UserShown], frozen=True, tag=True):
    """Lists every user."""

    def done_by(self, offices: Offices) -> list[UserShown]:
        """The users, by name."""
        return [_user(user) for user in offices.users.all()]


_AnyRequest = CreateKey | RevokeKey | ListKeys | AddUser | RemoveUser | SetPassword | ListUsers


class Answer(msgspec.Struct, frozen=True):
    """What a request is about, or why it was refused."""

    found: list[KeyShown | UserShown] = []
    refused: str = ""


_requests: msgspec.json.Decoder[_AnyRequest] = msgspec.json.Decoder(_AnyRequest)
_answers = msgspec.json.Decoder(Answer)


class Administration:
    """Does what commands ask for."""

    def __init__(self, offices: Offices) -> None:
        self._offices = offices

    def handle(self, message: bytes) -> bytes:
        """Does what the message asks for; gives the answer."""
        try:
            answer = Answer([*_requests.decode(message).done_by(self._offices)])
        except (JobEngineError, msgspec.MsgspecError) as error:
            answer = Answer(refused=str(error))
        return msgspec.json.encode(answer)


def ask(send: Callable[[bytes], bytes], request: Request[T]) -> list[T]:
    """Has the request done by who is behind `send`. Raises Refused."""
    answer = _answers.decode(send(msgspec.json.encode(request)))
    if answer.refused:
        raise Refused(answer.refused)
    return cast("list[T]", answer.found)  # as the request's own `done_by` gave it


class Refused(JobEngineError):
    """What was asked for was not done."""


def _key(key: Key, text: str = "") -> KeyShown:
    return KeyShown(**_fields(key, KeyShown), text=text)


def _user(user: User) -> UserShown:
    return UserShown(**_fields(user, UserShown))


def _fields(shown: Key | User, kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: getattr(shown, name) for name in kind.__struct_fields__ if hasattr(shown, name)}
