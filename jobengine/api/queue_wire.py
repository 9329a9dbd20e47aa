"""What goes over the wire of queues: the struct of the body, and of a purge's answer."""

import contextlib
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from jobengine.api.bodies import Body
from jobengine.domain.errors import MISTAKES_MAX, InvalidInput, Mistake
from jobengine.domain.queue import (
    ANYONE,
    MAX_JOBS_MAX,
    MINUTES_MAX,
    NAME_PATTERN,
    NAME_RULE,
    is_name,
)
from jobengine.engine.queue_admin import QueueDraft

_SERVICES_MAX = 10_000
# The pattern is for readers of the description: a name that is none is told by its index.
_Service = Annotated[str, Meta(extra_json_schema={"pattern": NAME_PATTERN})]
_Services = Annotated[
    list[_Service],
    Meta(
        max_length=_SERVICES_MAX,
        description=f"an array of the names of services, or {ANYONE!r} for any",
    ),
]
_Keep = Annotated[
    Annotated[int, Meta(ge=0, le=MINUTES_MAX)] | None,
    Meta(description=f"an integer from 0 to {MINUTES_MAX}, or null"),
]
_Timeout = Annotated[
    Annotated[int, Meta(ge=1, le=MINUTES_MAX)] | None,
    Meta(description=f"an integer from 1 to {MINUTES_MAX}, or null"),
]
_MaxJobs = Annotated[
    Annotated[int, Meta(ge=1, le=MAX_JOBS_MAX)] | None,
    Meta(description=f"an integer from 1 to {MAX_JOBS_MAX}, or null"),
]


class QueueBody(QueueDraft, forbid_unknown_fields=True, frozen=True):
    """The body of a queue: what is left out is empty, or that of the config."""

    read: _Services = field(default_factory=list)
    write: _Services = field(default_factory=list)
    job_keep_minutes: _Keep = None
    job_timeout_minutes: _Timeout = None
    max_jobs: _MaxJobs = None


class Purged(Struct, frozen=True):
    """The answer to a purge."""

    deleted: Annotated[int, Meta(ge=0, description="how many jobs were deleted")]


class _Rights(Struct, frozen=True):
    """Of a body that may have any mistake, what names services."""

    read: Any = None
    write: Any = None


_queue = Body(QueueBody)
_rights = msgspec.json.Decoder(_Rights)


def draft(name: str, body: bytes) -> QueueDraft:
    """The queue that the path and the body ask for. Raises InvalidInput."""
    mistakes: list[Mistake] = []
    parsed = QueueBody()
    if not is_name(name):
        mistakes.append(Mistake("parameter", "name", f"expected the name of a queue: {NAME_RULE}"))
    try:
        parsed = _queue.one(body)
    except InvalidInput as error:
        mistakes += error.mistakes
    mistakes += islice(_bad_names(body), MISTAKES_MAX)
    if mistakes:
        raise InvalidInput(mistakes)
    return parsed


def _bad_names(body: bytes) -> Iterator[Mistake]:
    rights = _Rights()
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        rights = _rights.decode(body)
    for right, names in (("read", rights.read), ("write", rights.write)):
        for index, name in enumerate(names if isinstance(names, list) else ()):
            if isinstance(name, str) and not is_name(name):
                detail = f"expected the name of a service: {NAME_RULE}"
                yield Mistake("pointer", f"/{right}/{index}", detail)
