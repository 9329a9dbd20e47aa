"""What a request says: who calls, on which queue, about which job, with what body."""

from typing import BinaryIO
from uuid import UUID

import falcon
from falcon import Request

from jobengine.domain.errors import InvalidInput, Mistake, UnknownJob
from jobengine.domain.job import State
from jobengine.domain.queue import NAME_RULE, is_name
from jobengine.engine.jobs import Caller
from jobengine.engine.listing import LIMIT_MAX, Cursor

_UID_LENGTH = 36
_STATES = ", ".join(state.value for state in State)


def caller(req: Request) -> Caller:
    """The names in X-Name and X-Queue. Raises InvalidInput."""
    service, queue = req.env.get("HTTP_X_NAME", ""), req.env.get("HTTP_X_QUEUE", "")
    if is_name(service) and is_name(queue):
        return Caller(service, queue)
    mistakes = [
        Mistake("header", header, _name_mistake(value, what))
        for header, value, what in (("X-Name", service, "service"), ("X-Queue", queue, "queue"))
        if not is_name(value)
    ]
    raise InvalidInput(mistakes)


def _name_mistake(value: str, what: str) -> str:
    found = "" if value else "missing, "
    return f"{found}expected the name of a {what} once: {NAME_RULE}"


def uid(text: str) -> bytes:
    """The 16 bytes of a uid. Raises UnknownJob where the text is no UUID: no job has it."""
    try:
        value = UUID(text)
    except ValueError:
        raise UnknownJob from None
    if len(text) != _UID_LENGTH:  # UUID() takes braces, urn:uuid: and no hyphens too
        raise UnknownJob
    return value.bytes


def state_filter(req: Request) -> State | None:
    """The state in X-Status-Filter, None without one. Raises InvalidInput."""
    value = req.env.get("HTTP_X_STATUS_FILTER")
    if value is None:
        return None
    try:
        return State(value)
    except ValueError:
        raise InvalidInput(
            [Mistake("header", "X-Status-Filter", f"expected one of {_STATES}")]
        ) from None


def page(req: Request) -> tuple[int | None, Cursor | None]:
    """The parameters `limit` and `cursor`. Raises InvalidInput, for any other parameter too."""
    mistakes = [
        Mistake("parameter", name, "unknown parameter, expected limit or cursor")
        for name in req.params
        if name not in ("limit", "cursor")
    ]
    limit, cursor = req.params.get("limit"), req.params.get("cursor")
    if limit is not None and not _is_limit(limit):
        detail = f"expected an integer from 1 to {LIMIT_MAX}, once"
        mistakes.append(Mistake("parameter", "limit", detail))
    if isinstance(cursor, list):
        mistakes.append(Mistake("parameter", "cursor", "expected it once"))
    if mistakes:
        raise InvalidInput(mistakes)
    return (
        int(str(limit)) if limit is not None else None,
        Cursor.parse(str(cursor)) if cursor is not None else None,
    )


def _is_limit(value: str | list[str]) -> bool:
    return (
        isinstance(value, str)
        and value.isascii()
        and value.isdigit()
        and len(value) <= len(str(LIMIT_MAX))
        and 1 <= int(value) <= LIMIT_MAX
    )


def body(req: Request, limit: int) -> bytes:
    """The body, of at most `limit` bytes. Raises Falcon's 413 where it is longer."""
    length = req.content_length
    if length is None:
        # No length: a chunked body, which only some servers pass on, or none at all.
        stream: BinaryIO = req.env["wsgi.input"]
        data = stream.read(limit + 1) if req.env.get("wsgi.input_terminated") else b""
    elif length <= limit:
        data = req.bounded_stream.read()
        if len(data) < length:
            raise InvalidInput(
                [Mistake("header", "Content-Length", "expected as many bytes of body as it says")]
            )
    if (length or len(data)) > limit:
        raise falcon.HTTPContentTooLarge(description=f"The body may have at most {limit} bytes.")
    return data
