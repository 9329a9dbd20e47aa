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
    """The parameters `limit` and `cursor`. Raises InvalidInput."""
    limit = _integer(req, "limit", 1, LIMIT_MAX)
    cursor = req.params.get("cursor")
    return limit, Cursor.parse(str(cursor)) if cursor is not None else None


def count(req: Request) -> int | None:
    """The parameter `count` of next; None without one. Raises InvalidInput."""
    return _integer(req, "count", 1, CLAIM_MAX)


def wait(req: Request) -> int:
    """How many seconds a claim may wait: `Prefer: wait=N` (RFC 7240), or the parameter.

    A preference of more than WAIT_MAX is cut to that, and one that is none is ignored,
    as the RFC has it. Raises InvalidInput for the parameter.
    """
    asked = _integer(req, "wait", 0, WAIT_MAX)
    if asked is not None:
        return asked
    found = _PREFER_WAIT.search(req.env.get("HTTP_PREFER", ""))
    return min(int(found[1]), WAIT_MAX) if found else 0


def audit_page(req: Request) -> tuple[int, int | None, int]:
    """The parameters `since`, `before` and `limit` of the audit trail. Raises InvalidInput."""
    since = _integer(req, "since", 0, TIME_MAX) or 0
    before = _integer(req, "before", 1, 2**63 - 1)
    return since, before, _integer(req, "limit", 1, LIMIT_MAX) or AUDIT_LIMIT


def next_count(req: Request, most: int) -> int:
    """The parameter `next` of an update: how many jobs to claim; 0 without one."""
    return _integer(req, "next", 1, most) or 0


def check_parameters(req: Request, *known: str) -> None:
    """Raises InvalidInput unless each of the query's parameters is known and given once."""
    wrong = [n for n, value in req.params.items() if n not in known or isinstance(value, list)]
    if wrong:
        raise InvalidInput(_parameter_mistake(name, known) for name in wrong)


def _parameter_mistake(name: str, known: Sequence[str]) -> Mistake:
    if name in known:
        return Mistake("parameter", name, f"expected {name} once")
    expected = " or ".join(known) or "none"
    return Mistake("parameter", name, f"unknown parameter, expected {expected}")


def _integer(req: Request, name: str, low: int, high: int) -> int | None:
    value = req.params.get(name)
    if value is None:
        return None
    value = str(value)  # parameters.py has seen that it is given once
    digits = value.isascii() and value.isdigit() and len(value) <= len(str(high))
    if digits and low <= int(value) <= high:
        return int(value)
    detail = f"expected an integer from {low} to {high}"
    raise InvalidInput([Mistake("parameter", name, detail)])


def refuse_coding(req: Request) -> None:
    """Raises Falcon's 415 for a compressed body (RFC 9110, sections 8.4 and 15.5.16)."""
    coding = req.env.get("HTTP_CONTENT_ENCODING")
    if coding is not None and coding.lower() not in ("", "identity"):
        raise falcon.HTTPUnsupportedMediaType(
            description="A body is taken without any Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )


def body(req: Request, limit: int) -> bytes:
    """The body, of at most `limit` bytes.

    Raises InvalidInput, and Falcon's 413 and 415.
    """
    refuse_coding(req)
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
