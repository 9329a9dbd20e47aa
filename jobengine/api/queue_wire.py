"""The body of a queue, with every mistake in it told at once."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from jobengine.api.wire import MISTAKES_MAX, pointer
from jobengine.domain.errors import InvalidInput, Mistake
from jobengine.domain.queue import ANYONE, MAX_JOBS_MAX, MINUTES_MAX, NAME_RULE, is_name
from jobengine.engine.queue_admin import QueueDraft

_SERVICES_MAX = 10_000
_fields = msgspec.json.Decoder(dict[str, Raw])
_services = Annotated[list[str], Meta(max_length=_SERVICES_MAX)]
# What each field is to be, and how that is said.
_EXPECTED: dict[str, tuple[Any, str]] = {
    "read": (_services, f"an array of the names of services, or {ANYONE!r} for any"),
    "write": (_services, f"an array of the names of services, or {ANYONE!r} for any"),
    "job_keep_minutes": (
        Annotated[int, Meta(ge=0, le=MINUTES_MAX)] | None,
        f"an integer from 0 to {MINUTES_MAX}, or null",
    ),
    "job_timeout_minutes": (
        Annotated[int, Meta(ge=1, le=MINUTES_MAX)] | None,
        f"an integer from 1 to {MINUTES_MAX}, or null",
    ),
    "max_jobs": (
        Annotated[int, Meta(ge=1, le=MAX_JOBS_MAX)] | None,
        f"an integer from 1 to {MAX_JOBS_MAX}, or null",
    ),
}


def draft(name: str, body: bytes) -> QueueDraft:
    """The queue that the path and the body ask for. Raises InvalidInput with every mistake."""
    mistakes = []
    if not is_name(name):
        mistakes.append(Mistake("parameter", "name", f"expected the name of a queue: {NAME_RULE}"))
    values: dict[str, Any] = {}
    try:
        body.decode("utf-8")
        fields = _fields.decode(body)
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        fields = {}
        mistakes.append(Mistake("pointer", "", "expected a JSON object"))
    for field, raw in fields.items():
        if field not in _EXPECTED:
            detail = f"unknown field, expected {', '.join(_EXPECTED)}"
            mistakes.append(Mistake("pointer", pointer(field), detail))
            continue
        type_, expected = _EXPECTED[field]
        try:
            values[field] = msgspec.json.decode(raw, type=type_)
        except (msgspec.MsgspecError, RecursionError):
            mistakes.append(Mistake("pointer", f"/{field}", f"expected {expected}"))
    for field in ("read", "write"):
        mistakes += _bad_names(field, values.get(field, []))
    if mistakes:
        raise InvalidInput(mistakes[:MISTAKES_MAX])
    return QueueDraft(**values)


def _bad_names(field: str, names: list[str]) -> list[Mistake]:
    return [
        Mistake("pointer", f"/{field}/{index}", f"expected the name of a service: {NAME_RULE}")
        for index, name in enumerate(names)
        if not is_name(name)
    ]
