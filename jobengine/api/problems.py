"""Errors as application/problem+json (RFC 9457).

Each kind of problem has a `type` of its own, listed in docs/api.md, so that a client
need not parse a sentence.
"""

from collections.abc import Iterable
from typing import Annotated, Any

import falcon
import msgspec
import structlog
from falcon import Request, Response
from msgspec import UNSET, Meta, Struct, UnsetType

from jobengine.domain import errors
from jobengine.domain.errors import Mistake

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:jobengine:problem:"
NO_TYPE = "about:blank"

_log = structlog.get_logger(component="api")

# What a domain error is on the wire: the type's name, the status, the title.
_PROBLEMS: dict[type[errors.JobEngineError], tuple[str, int, str]] = {
    errors.InvalidInput: ("invalid-input", 400, "The request is not as expected"),
    errors.Unauthenticated: ("unauthenticated", 401, "A key is needed"),
    errors.Forbidden: ("forbidden", 403, "The service lacks the right"),
    errors.UnknownQueue: ("unknown-queue", 404, "Unknown queue"),
    errors.UnknownJob: ("unknown-job", 404, "Unknown job"),
    errors.Conflict: ("conflict", 409, "What is there stands in the way"),
    errors.Misdirected: ("misdirected", 421, "The host is not this server's"),
    errors.RateExceeded: ("rate-exceeded", 429, "The service calls too often"),
    errors.QueueFull: ("queue-full", 429, "The queue is full"),
    errors.Busy: ("busy", 503, "Too many calls of this kind at once"),
    errors.AnswerFull: ("answer-full", 503, "The answer is full"),
    errors.Stopping: ("stopping", 503, "The server is shutting down"),
    errors.NotRunning: ("not-running", 503, "A part of the server does not run"),
    errors.OutcomeUnknown: ("outcome-unknown", 503, "The database failed at the commit"),
    errors.StoreFailed: ("store-failed", 503, "The database failed"),
    errors.ContentDamaged: ("store-failed", 503, "The database failed"),
}
_DETAILS = {
    400: "The request cannot be read, or its method is unknown.",
    404: "There is nothing at this path.",
    405: "The path does not take this method; the Allow header names those that it does.",
}
_UNKNOWN_JOB = "there is no such job in the queue, or its time is over"
RETRY_AFTER_SECONDS = 1
# RFC 6750, section 3.
CHALLENGE = 'Bearer realm="JobEngine"'


class ProblemError(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One mistake in a request; one of `pointer`, `header` and `parameter` says where."""

    pointer: Annotated[str, Meta(description="into the body, RFC 6901")] | UnsetType = UNSET
    header: Annotated[str, Meta(description="the name of a header")] | UnsetType = UNSET
    parameter: Annotated[str, Meta(description="the name of a parameter")] | UnsetType = UNSET
    detail: Annotated[str, Meta(description="what was expected there")]


class Problem(Struct, frozen=True, omit_defaults=True):
    """An error, as RFC 9457 has it."""

    type: Annotated[str, Meta(description="what kind of problem it is; about:blank for none")]
    title: str
    status: Annotated[int, Meta(ge=400, le=599, description="that of the answer")]
    detail: str = ""
    errors: list[ProblemError] = []


def problem(
    status: int, title: str, *, kind: str = "", detail: str = "", mistakes: Iterable[Mistake] = ()
) -> Problem:
    """A problem; without a kind its type is about:blank, as RFC 9457 has it."""
    listed = [ProblemError(**{m.kind: m.place}, detail=m.detail) for m in mistakes]
    return Problem(TYPE + kind if kind else NO_TYPE, title, status, detail, listed)


def body(status: int, title: str, detail: str = "") -> bytes:
    """A problem without a kind, as JSON."""
    return msgspec.json.encode(problem(status, title, detail=detail))


def plain(status: int, detail: str = "") -> Problem:
    """A problem that has no kind, with the title of its status."""
    title = falcon.code_to_http_status(status).partition(" ")[2]
    return problem(status, title, detail=detail or _DETAILS.get(status, ""))


def of(error: errors.JobEngineError) -> Problem:
    """A domain error as a problem."""
    kind, status, title = _PROBLEMS[type(error)]
    mistakes = error.mistakes if isinstance(error, errors.InvalidInput) else ()
    detail = str(error) or (_UNKNOWN_JOB if isinstance(error, errors.UnknownJob) else "")
    return problem(status, title, kind=kind, detail=detail, mistakes=mistakes)


def refusal(error: errors.JobEngineError, start_response: Any) -> list[bytes]:
    """Answers a WSGI call with an error, where the application cannot be asked."""
    found = of(error)
    headers = [("Content-Type", MEDIA_TYPE), ("Retry-After", str(RETRY_AFTER_SECONDS))]
    start_response(falcon.code_to_http_status(found.status), headers)
    return [msgspec.json.encode(found)]


def handle_domain_error(
    _req: Request, resp: Response, error: errors.JobEngineError, _params: dict[str, Any]
) -> None:
    """Answers with what a domain error is on the wire."""
    _, status, _ = _PROBLEMS[type(error)]
    if isinstance(error, errors.TooMany):
        resp.set_header("Retry-After", str(error.retry_after))
    elif status == 503:
        resp.set_header("Retry-After", str(RETRY_AFTER_SECONDS))
    elif status == 401:
        resp.set_header("WWW-Authenticate", CHALLENGE)
    _answer(resp, status, msgspec.json.encode(of(error)))


def handle_http_error(
    _req: Request, resp: Response, error: falcon.HTTPError, _params: dict[str, Any]
) -> None:
    """Answers with an error of Falcon's own: no such path, no such method, a bad header."""
    if error.headers is not None:
        resp.set_headers(error.headers)  # Allow of a 405, Accept-Encoding of a 415
    status = error.status_code
    _answer(resp, status, msgspec.json.encode(plain(status, error.description or "")))


def handle_unexpected(
    req: Request, resp: Response, _error: Exception, _params: dict[str, Any]
) -> None:
    """Answers 500 without a word of why; the log has the traceback."""
    _log.exception("unexpected error", method=req.method, path=req.path)
    _answer(resp, 500, body(500, "Internal Server Error"))


def _answer(resp: Response, status: int, data: bytes) -> None:
    resp.status = status
    resp.content_type = MEDIA_TYPE
    resp.data = data
    resp.stream = None
