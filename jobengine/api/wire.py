"""Request bodies: JSON to structs, with every mistake in a body told at once."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from jobengine.domain.errors import InvalidInput, Mistake
from jobengine.domain.job import PRIORITY_MAX, PRIORITY_MIN, TIME_MAX, Changes, State
from jobengine.domain.uids import uid_bytes
from jobengine.engine.jobs import Draft

T = TypeVar("T", bound=Struct)

Priority = Annotated[int, Meta(ge=PRIORITY_MIN, le=PRIORITY_MAX)]
ValidFor = Annotated[int, Meta(ge=1)]
Time = Annotated[int, Meta(ge=0, le=TIME_MAX)]
Status = Literal["queued", "inprogress", "complete", "failed"]

BULK_MAX = 1000
# A body may have a hundred thousand unknown fields; nobody wants to read of them all.
MISTAKES_MAX = 20


class NewJobBody(Draft, forbid_unknown_fields=True, frozen=True, gc=False):
    """The body of a create: a draft within its bounds."""

    content: Raw
    valid_for: ValidFor
    priority: Priority


class ChangesBody(Struct, forbid_unknown_fields=True, frozen=True, gc=False, kw_only=True):
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


class UidChangesBody(ChangesBody, forbid_unknown_fields=True, frozen=True, gc=False, kw_only=True):
    """An element of a bulk update: the changes, and the uid of the job."""

    uid: str


_EXPECTED = {
    "content": "a JSON object",
    "valid_for": "an integer of at least 1: seconds",
    "priority": f"an integer from {PRIORITY_MIN} to {PRIORITY_MAX}",
    "status": "one of queued, inprogress, complete, failed",
    "timeout_time": f"an integer from 0 to {TIME_MAX}: seconds since the Unix epoch",
    "uid": "the uid of a job, a text",
}
_ELEMENTS = f"an array of 1 to {BULK_MAX} JSON objects"


class _Body(msgspec.Struct, frozen=True):
    """How to decode a body, one object or, where `array` is set, an array of them."""

    struct: Any
    one: Any
    many: Any

    @classmethod
    def of(cls, struct: Any) -> "_Body":
        array = Annotated[list[struct], Meta(min_length=1, max_length=BULK_MAX)]
        return cls(struct, msgspec.json.Decoder(struct), msgspec.json.Decoder(array))


_new_job = _Body.of(NewJobBody)
_changes = _Body.of(ChangesBody)
_uid_changes = _Body.of(UidChangesBody)
_fields = msgspec.json.Decoder(dict[str, Raw])
_elements = msgspec.json.Decoder(list[Raw])


def is_array(body: bytes) -> bool:
    """Whether the body is to be read as an array."""
    return body.lstrip(b" \t\r\n")[:1] == b"["


def new_job(body: bytes) -> Draft:
    """The job that the body asks for. Raises InvalidInput with every mistake in it."""
    parsed: Draft = _decode(_new_job.one, body, _new_job)
    return parsed


def new_jobs(body: bytes) -> Sequence[Draft]:
    """The jobs that the array asks for. Raises InvalidInput with every mistake in it."""
    parsed: Sequence[Draft] = _decode(_new_job.many, body, _new_job)
    return parsed


def changes(body: bytes) -> Changes:
    """The changes that the body asks for. Raises InvalidInput with every mistake in it."""
    parsed: ChangesBody = _decode(_changes.one, body, _changes)
    return parsed.changes()


def uid_changes(body: bytes) -> list[tuple[bytes | None, Changes]]:
    """The changes that the array asks for, by the uids of the jobs.

    A uid that is none comes as None: no job has it. Raises InvalidInput with every
    other mistake.
    """
    parsed: list[UidChangesBody] = _decode(_uid_changes.many, body, _uid_changes)
    return [(uid_bytes(element.uid), element.changes()) for element in parsed]


def _decode(decoder: Any, body: bytes, kind: _Body) -> Any:
    try:
        body.decode("utf-8")  # msgspec does not look inside a Raw
        parsed = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(_mistakes(kind, decoder, body)) from error
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput([_malformed(error, decoder is kind.many, body)]) from error
    elements = parsed if decoder is kind.many else (parsed,)
    for element in elements:
        if element.content is not UNSET and not _is_object(element.content):
            raise InvalidInput(_mistakes(kind, decoder, body))
    return parsed


def _malformed(error: Exception, array: bool, body: bytes) -> Mistake:
    if isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    elif isinstance(error, UnicodeDecodeError):
        reason = f"it is not UTF-8 (byte {error.start})"
    else:
        reason = str(error) if body else "the body is empty"
    expected = _ELEMENTS if array else "a JSON object"
    return Mistake("pointer", "", f"expected {expected}: {reason}")


def _mistakes(kind: _Body, decoder: Any, body: bytes) -> list[Mistake]:
    """Every mistake in a body that is JSON but not the struct; off the hot path."""
    array = decoder is kind.many
    try:
        if not array:
            return _mistakes_of(kind.struct, _fields.decode(body), "")[:MISTAKES_MAX]
        elements = _elements.decode(body)
    except msgspec.ValidationError:
        return [Mistake("pointer", "", f"expected {_ELEMENTS if array else 'a JSON object'}")]
    except (msgspec.DecodeError, RecursionError) as error:
        return [_malformed(error, array, body)]
    if not 1 <= len(elements) <= BULK_MAX:
        return [Mistake("pointer", "", f"expected {_ELEMENTS}, got {len(elements)}")]
    return _mistakes_in(kind, elements)


def _mistakes_in(kind: _Body, elements: Sequence[Raw]) -> list[Mistake]:
    mistakes: list[Mistake] = []
    for index, element in enumerate(elements):
        if len(mistakes) >= MISTAKES_MAX:
            break
        if not _is_object(element):
            mistakes.append(Mistake("pointer", f"/{index}", "expected a JSON object"))
        elif not _decodes(element, kind.one):
            mistakes += _mistakes_of(kind.struct, _fields.decode(element), f"/{index}")
    return mistakes[:MISTAKES_MAX]


def _decodes(element: Raw, decoder: Any) -> bool:
    try:
        parsed = decoder.decode(element)
    except msgspec.ValidationError:
        return False
    return parsed.content is UNSET or _is_object(parsed.content)


def _mistakes_of(struct: Any, values: dict[str, Raw], place: str) -> list[Mistake]:
    known = {field.name: field for field in msgspec.structs.fields(struct)}
    mistakes = [
        Mistake("pointer", place + pointer(name), _unknown(name, known))
        for name in values
        if name not in known
    ]
    for name, field in known.items():
        if name not in values:
            if field.required:
                detail = f"missing, expected {_EXPECTED[name]}"
                mistakes.append(Mistake("pointer", f"{place}/{name}", detail))
        elif not _fits(values[name], field.type):
            detail = f"expected {_EXPECTED[name]}"
            mistakes.append(Mistake("pointer", f"{place}/{name}", detail))
    # Each field's last value fits, so an earlier one of the same name did not.
    return mistakes or [Mistake("pointer", place, "expected each field once")]


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


def pointer(name: str) -> str:
    """The JSON pointer of a field (RFC 6901, section 3)."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
