"""The headers and parameters that calls share, and what any call may be answered with."""

from typing import Annotated

from msgspec import Meta

from jobengine.api import problems
from jobengine.api.description.operation import Header, Parameter
from jobengine.api.requests import CLAIM_MAX, WAIT_MAX
from jobengine.domain.errors import (
    Forbidden,
    InvalidInput,
    Mistake,
    RateExceeded,
    Stopping,
    StoreFailed,
    Unauthenticated,
)
from jobengine.domain.job import State
from jobengine.domain.queue import NAME_PATTERN, NAME_RULE
from jobengine.engine.listing import LIMIT_MAX

UID = "01935c3e-7a52-7c1d-9f7e-2b1f4a5c6d7e"
OTHER_UID = "01935c3e-7a53-7f20-8d41-0a9b8c7d6e5f"

_NAME = Annotated[str, Meta(pattern=NAME_PATTERN)]


def service(example: str, *, required: bool = True) -> Parameter:
    """X-Name, with the name of a service that may make the call."""
    text = f"The name of the calling service: {NAME_RULE}. A key names it as well."
    return Parameter("X-Name", "header", text, _NAME, example, required)


QUEUE = Parameter(
    "X-Queue", "header", f"The name of the queue: {NAME_RULE}.", _NAME, "emails", required=True
)
QUEUE_NAME = Parameter(
    "name",
    "path",
    f"The name of the queue: {NAME_RULE}. One with a slash in it cannot be written here.",
    _NAME,
    "faxes",
    required=True,
)
JOB_UID = Parameter(
    "uid",
    "path",
    "The uid of the job, as its creation told it.",
    Annotated[str, Meta(extra_json_schema={"format": "uuid"})],
    UID,
    required=True,
)
STATUS_FILTER = Parameter(
    "X-Status-Filter", "header", "Only jobs in this state.", State, State.QUEUED.value
)
PREFER = Parameter(
    "Prefer",
    "header",
    f"`wait=N`: how many seconds to wait for a job, at most {WAIT_MAX} (RFC 7240).",
    str,
    "wait=20",
)
WAIT = Parameter(
    "wait",
    "query",
    "As `Prefer: wait`, which it overrules.",
    Annotated[int, Meta(ge=0, le=WAIT_MAX)],
    20,
)
COUNT = Parameter(
    "count",
    "query",
    "How many jobs to claim at most; with it the answer is an array.",
    Annotated[int, Meta(ge=1, le=CLAIM_MAX)],
    10,
)


def limit(what: str, otherwise: str) -> Parameter:
    """The parameter `limit` for a page of something, and what holds without it."""
    type_ = Annotated[int, Meta(ge=1, le=LIMIT_MAX)]
    return Parameter("limit", "query", f"How many {what} a page has; {otherwise}.", type_, 100)


def next_jobs(most: int, description: str) -> Parameter:
    """The parameter `next` of an update."""
    return Parameter("next", "query", description, Annotated[int, Meta(ge=1, le=most)], 1)


CACHE_CONTROL = Header("Cache-Control", "Nothing is to be stored.", "no-store")
CONTENT_TYPE_OPTIONS = Header("X-Content-Type-Options", "The type is as it says.", "nosniff")
ALWAYS = (CACHE_CONTROL, CONTENT_TYPE_OPTIONS)
# draft-ietf-httpapi-ratelimit-headers-10.
RATE_LIMIT_POLICY = Header(
    "RateLimit-Policy",
    "Where the service has a limit: calls (q) in seconds (w).",
    '"service";q=1000;w=1',
)
RATE_LIMIT = Header(
    "RateLimit",
    "Where the service has a limit: calls that remain (r), and seconds until there are more (t).",
    '"service";r=714;t=1',
)
COUNTED = (RATE_LIMIT_POLICY, RATE_LIMIT)
RETRY_AFTER = Header("Retry-After", "In how many seconds to try again.", "1")
CHALLENGE = Header("WWW-Authenticate", "What is asked for (RFC 6750).", problems.CHALLENGE)


def next_link(example: str) -> Header:
    """Link, with the address of the next page."""
    return Header("Link", "Where there are more: the next page, `rel=next`.", example)


# What any call but an open one may meet; the first where a key is asked for.
WITH_KEYS = (
    Unauthenticated("expected the header Authorization: Bearer, with a key"),
    Forbidden("the key is of the service 'shop', and X-Name names another"),
)
ANY_CALL = (
    RateExceeded("'shop' may make 1000 calls in 1 s"),
    Stopping("the server is shutting down"),
    StoreFailed("the database cannot be written: try again"),
)


def invalid(kind: str, place: str, detail: str) -> InvalidInput:
    """A request with one mistake."""
    return InvalidInput([Mistake(kind, place, detail)])
