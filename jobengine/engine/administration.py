"""What commands may have done, as messages: beside a server, or by one that has the file.

A file belongs to one process. A command that is to change something in it asks that
process (control.py), and does it itself where there is none, in either case from here.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from jobengine.domain.audit import Actor
from jobengine.domain.errors import JobEngineError
from jobengine.domain.key import Key
from jobengine.engine.keys import Keys

T = TypeVar("T")


class KeyShown(msgspec.Struct, frozen=True):
    """A key as it is listed, and its text where it has just been made."""

    id: str
    service: str
    created: int
    expires: int | None
    revoked: int | None
    last_used: int | None
    text: str = ""


class CreateKey(msgspec.Struct, frozen=True, tag=True):
    """Makes a key for a service, valid for so many seconds or for ever."""

    actor: Actor
    service: str
    valid_for: int | None


class RevokeKey(msgspec.Struct, frozen=True, tag=True):
    """Revokes the key of an id."""

    actor: Actor
    id: str


class ListKeys(msgspec.Struct, frozen=True, tag=True):
    """Lists every key there ever was."""


Request = CreateKey | RevokeKey | ListKeys


class Answer(msgspec.Struct, frozen=True):
    """The keys that a request is about, or why it was refused."""

    keys: list[KeyShown] = []
    refused: str = ""


_requests = msgspec.json.Decoder(Request)
_answers = msgspec.json.Decoder(Answer)


class Administration:
    """Does what commands ask for."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def handle(self, message: bytes) -> bytes:
        """Does what the message asks for; gives the answer."""
        try:
            answer = Answer(self._do(_requests.decode(message)))
        except (JobEngineError, msgspec.MsgspecError) as error:
            answer = Answer(refused=str(error))
        return msgspec.json.encode(answer)

    def _do(self, request: Request) -> list[KeyShown]:
        if isinstance(request, CreateKey):
            key, text = self._keys.create(request.service, request.valid_for, request.actor)
            return [_shown(key, text)]
        if isinstance(request, RevokeKey):
            return [_shown(self._keys.revoke(request.id, request.actor))]
        return [_shown(key) for key in self._keys.all()]


def ask(send: Callable[[bytes], bytes], request: Request) -> list[KeyShown]:
    """Has the request done by who is behind `send`. Raises Refused."""
    answer = _answers.decode(send(msgspec.json.encode(request)))
    if answer.refused:
        raise Refused(answer.refused)
    return answer.keys


class Refused(JobEngineError):
    """What was asked for was not done."""


def _shown(key: Key, text: str = "") -> KeyShown:
    fields: dict[str, Any] = {
        name: getattr(key, name) for name in KeyShown.__struct_fields__ if name != "text"
    }
    return KeyShown(**fields, text=text)
