"""What is said of a call."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from jobengine.domain.errors import JobEngineError

Examples = Mapping[str, Any]
"""Values as the wire has them, by a word on what they show."""


class Parameter(Struct, frozen=True):
    """A header, a part of the query or a part of the path; `type` is a type or a JSON schema."""

    name: str
    place: Literal["header", "query", "path"]
    description: str
    type: Any
    example: Any
    required: bool = False


class Header(Struct, frozen=True):
    """A header of an answer."""

    name: str
    description: str
    example: str


class Body(Struct, frozen=True):
    """The body of a request, of one of the types."""

    types: tuple[Any, ...]
    examples: Examples


class Answer(Struct, frozen=True):
    """An answer that is no error, with a body of one of the types, or with none."""

    status: int
    description: str
    types: tuple[Any, ...] = ()
    examples: Examples = {}
    headers: tuple[Header, ...] = ()
    media_type: str = "application/json"


class Operation(Struct, frozen=True, kw_only=True):
    """A call. `errors` are examples of those that it may be answered with.

    `id` names it in generated clients; an `open` one needs neither name nor key and is not
    counted; with `head` the path takes HEAD as well.
    """

    id: str
    method: str
    path: str
    tag: str
    summary: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    answers: tuple[Answer, ...]
    errors: tuple[JobEngineError, ...] = ()
    open: bool = False
    head: bool = False
