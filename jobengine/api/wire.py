"""Request bodies: JSON to structs, with every mistake in a body told at once."""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from jobengine.domain.errors import InvalidInput, Mistake
from jobengine.domain.job import PRIORITY_MAX, PRIORITY_MIN, TIME_MAX, Changes, State

T = TypeVar("T", bound=Struct)

Priority = Annotated[int, Meta(ge=PRIORITY_MIN, le=PRIORITY_MAX)]
ValidFor = Annotated[int, Meta(ge=1)]
Time = Annotated[int, Meta(ge=0, le=TIME_MAX)]
Status = Literal["queued", "inprogress", "complete", "failed"]


class NewJobBody(Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """The body of a create. Seconds for `valid_for`; 1–100 for `priority`."""

    content: Raw
    valid_for: ValidFor
    priority: Priority


class ChangesBody(Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """The body of an update; what is left out stays as it is."""

    status: Status | UnsetType = UNSET
    content: Raw | UnsetType = UNSET
    timeout_time: Time | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET

    def changes(self) -> Changes:
        """The changes that the body asks for."""
        return Changes(
            status=None if self.status is UNSET else State(self.status),
            content=None if self.content is UNSET else bytes(self.content),
            timeout_time=None if self.timeout_time is UNSET else self.timeout_time,
            priority=None if self.priority is UNSET else self.priority,
        )


_EXPECTED = {
    "content": "a JSON object",
    "valid_for": "an integer of at least 1: seconds",
    "priority": f"an integer from {PRIORITY_MIN} to {PRIORITY_MAX}",
    "status": "one of queued, inprogress, complete, failed",
    "timeout_time": f"an integer from 0 to {TIME_MAX}: seconds since the Unix epoch",
}
_fields = msgspec.json.Decoder(dict[str, Raw])
_new_job = msgspec.json.Decoder(NewJobBody)
_changes = msgspec.json.Decoder(ChangesBody)


def new_job(body: bytes) -> NewJobBody:
    """The job that the body asks for. Raises InvalidInput with every mistake in it."""
    parsed = _decode(_new_job, NewJobBody, body)
    if not _is_object(parsed.content):
        raise InvalidInput(_mistakes(NewJobBody, body))
    return parsed


def changes(body: bytes) -> Changes:
    """The changes that the body asks for. Raises InvalidInput with every mistake in it."""
    parsed = _decode(_changes, ChangesBody, body)
    if parsed.content is not UNSET and not _is_object(parsed.content):
        raise InvalidInput(_mistakes(ChangesBody, body))
    return parsed.changes()


def _decode(decoder: msgspec.json.Decoder[T], struct: type[T], body: bytes) -> T:
    try:
        body.decode("utf-8")  # msgspec does not look inside a Raw
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(_mistakes(struct, body)) from error
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput([_malformed_because(error, body)]) from error


def _malformed_because(error: Exception, body: bytes) -> Mistake:
    if isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    elif isinstance(error, UnicodeDecodeError):
        reason = f"it is not UTF-8 (byte {error.start})"
    else:
        reason = str(error) if body else "the body is empty"
    return Mistake("pointer", "", f"expected a JSON object: {reason}")


def _mistakes(struct: type[Struct], body: bytes) -> list[Mistake]:
    """Every mistake in a body that is JSON but not the struct; off the hot path."""
    try:
        values = _fields.decode(body)
    except msgspec.ValidationError:
        return [Mistake("pointer", "", "expected a JSON object")]
    except (msgspec.DecodeError, RecursionError) as error:
        return [_malformed_because(error, body)]
    known = {field.name: field for field in msgspec.structs.fields(struct)}
    mistakes = [
        Mistake("pointer", _pointer(name), _unknown(name, known))
        for name in values
        if name not in known
    ]
    for name, field in known.items():
        if name not in values:
            if field.required:
                mistakes.append(
                    Mistake("pointer", f"/{name}", f"missing, expected {_EXPECTED[name]}")
                )
        elif not _fits(values[name], field.type):
            mistakes.append(Mistake("pointer", f"/{name}", f"expected {_EXPECTED[name]}"))
    # Each field's last value fits, so an earlier one of the same name did not.
    return mistakes or [Mistake("pointer", "", "expected each field once")]


def _fits(value: Raw, type_: Any) -> bool:
    if type_ in (Raw, Raw | UnsetType):
        return _is_object(value)
    try:
        msgspec.json.decode(value, type=type_)
    except msgspec.ValidationError:
        return False
    return True


def _is_object(value: Raw) -> bool:
    return bytes(memoryview(value)[:1]) == b"{"


def _unknown(name: str, known: dict[str, Any]) -> str:
    if name == "state" and "status" in known:
        return "unknown field: in an update it is called status"
    return f"unknown field, expected {', '.join(known)}"


def _pointer(name: str) -> str:
    """The JSON pointer of a field (RFC 6901, section 3)."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
