"""What a request says: who calls, on which queue, about which job, with what body."""

import re
from collections.abc import Sequence
from typing import BinaryIO

import falcon
from falcon import Request

from jobengine.domain.errors import InvalidInput, Mistake, UnknownJob
from jobengine.domain.job import TIME_MAX, State
from jobengine.domain.queue import NAME_RULE, is_name
from jobengine.domain.uids import uid_bytes
from jobengine.engine.listing import LIMIT_MAX, Cursor
from jobengine.engine.permits import Caller

CLAIM_MAX = 1000
WAIT_MAX = 60
AUDIT_LIMIT = 100
_PREFER_WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(?:[,;]|$)", re.IGNORECASE)
_STATES = ", ".join(state.value for state in State)


def caller(req: Request) -> Caller:
    """The calling service, and the queue in X-Queue. Raises InvalidInput."""
    service, queue = req.context.service, req.env.get("HTTP_X_QUEUE", "")
    if is_name(service) and is_name(queue):
        return Caller(service, queue, req.context.key)
    mistakes = [
        Mistake("header", header, _name_mistake(value, what))
        for header, value, what in (("X-Name", service, "service"), ("X-Queue", queue, "queue"))
        if not is_name(value)
    ]
    raise InvalidInput(mistakes)


def service(req: Request) -> str:
    """The calling service, where no queue is asked for. Raises InvalidInput."""
    name: str = req.context.service
    if not is_name(name):
        raise InvalidInput([Mistake("header", "X-Name", _name_mistake(name, "service"))])
    return name


def _name_mistake(value: str, what: str) -> str:
    found = "" if value else "missing, "
    return f"{found}expected the name of a {what} once: {NAME_RULE}"


def uid(text: str) -> bytes:
    """The bytes of a uid. Raises UnknownJob where the text is none: no job has it."""
    value = uid_bytes(text)
    if value is None:
        raise UnknownJob
    return value


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
    params = parameters(req, "limit", "cursor")
    limit = _integer(params, "limit", 1, LIMIT_MAX)
    cursor = params.get("cursor")
    return limit, Cursor.parse(cursor) if cursor is not None else None


def count(req: Request) -> int | None:
    """The parameter `count` of next; None without one. Raises InvalidInput."""
    return _integer(parameters(req, "count", "wait"), "count", 1, CLAIM_MAX)


def wait(req: Request) -> int:
    """How many seconds a claim may wait: `Prefer: wait=N` (RFC 7240), or the parameter.

    A preference of more than WAIT_MAX is cut to that, and one that is none is ignored,
    as the RFC has it. Raises InvalidInput for the parameter.
    """
    asked = _integer(parameters(req, "count", "wait"), "wait", 0, WAIT_MAX)
    if asked is not None:
        return asked
    found = _PREFER_WAIT.search(req.env.get("HTTP_PREFER", ""))
    return min(int(found[1]), WAIT_MAX) if found else 0


def audit_page(req: Request) -> tuple[int, int | None, int]:
    """The parameters `since`, `before` and `limit` of the audit trail. Raises InvalidInput."""
    params = parameters(req, "since", "before", "limit")
    since = _integer(params, "since", 0, TIME_MAX) or 0
    before = _integer(params, "before", 1, 2**63 - 1)
    return since, before, _integer(params, "limit", 1, LIMIT_MAX) or AUDIT_LIMIT


def next_count(req: Request, most: int) -> int:
    """The parameter `next` of an update: how many jobs to claim; 0 without one."""
    return _integer(parameters(req, "next"), "next", 1, most) or 0


def parameters(req: Request, *known: str) -> dict[str, str]:
    """The query's parameters, each known and given once. Raises InvalidInput."""
    if not req.query_string:
        return {}
    wrong = [n for n, value in req.params.items() if n not in known or isinstance(value, list)]
    if wrong:
        raise InvalidInput(_parameter_mistake(name, known) for name in wrong)
    return {name: str(value) for name, value in req.params.items()}


def _parameter_mistake(name: str, known: Sequence[str]) -> Mistake:
    if name in known:
        return Mistake("parameter", name, f"expected {name} once")
    expected = " or ".join(known) or "none"
    return Mistake("parameter", name, f"unknown parameter, expected {expected}")


def _integer(params: dict[str, str], name: str, low: int, high: int) -> int | None:
    value = params.get(name)
    if value is None:
        return None
    digits = value.isascii() and value.isdigit() and len(value) <= len(str(high))
    if digits and low <= int(value) <= high:
        return int(value)
    detail = f"expected an integer from {low} to {high}"
    raise InvalidInput([Mistake("parameter", name, detail)])


def body(req: Request, limit: int) -> bytes:
    """The body, of at most `limit` bytes. Raises Falcon's 413 where it is longer."""
    length = req.content_length
    stream: BinaryIO = req.env["wsgi.input"]
    if length is None:
        # No length: a chunked body, which only some servers pass on, or none at all.
        data = stream.read(limit + 1) if req.env.get("wsgi.input_terminated") else b""
    elif length <= limit:
        data = stream.read(length)
        if len(data) < length:
            raise InvalidInput(
                [Mistake("header", "Content-Length", "expected as many bytes of body as it says")]
            )
    if (length or len(data)) > limit:
        raise falcon.HTTPContentTooLarge(description=f"The body may have at most {limit} bytes.")
    return data
