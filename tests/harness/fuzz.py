"""Requests of all shapes: good ones, then bent ones, for every route that the router has."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from falcon.inspect import inspect_routes
from hypothesis import strategies as st

from jobengine.domain.job import TIME_MAX

METHODS = ["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH"]
_ODD_METHODS = ["TRACE", "CONNECT", "PROPFIND", "get", "G T", "", "X" * 300, "\x00", "WEBSOCKET"]
_NO_UID = "00000000-0000-7000-8000-000000000000"
# A call that would wait for a job: it is no mistake, and takes its time.
_WAITS = re.compile(rb"wait[^a-z]{0,12}?[1-9]", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """A request, in bytes throughout; `target` is the path and the query."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def waits(self) -> bool:
        """Whether it may have to wait for a job."""
        return _WAITS.search(self.target + dict(self.headers).get(b"Prefer", b"")) is not None

    def wire(self) -> bytes:
        """As it goes over the wire, framed as it should be."""
        lines = [b"%b %b HTTP/1.1" % (self.method, self.target), b"Host: localhost"]
        lines += [b"%b: %b" % header for header in self.headers]
        lines += [b"Content-Length: %d" % len(self.body), b"Connection: close", b"", b""]
        return b"\r\n".join(lines) + self.body


@dataclass(frozen=True)
class Known:
    """What a fuzzer has to know to come past the first checks."""

    routes: Sequence[tuple[str, Sequence[str]]]
    queue: str
    uids: Sequence[str]


def routes_of(app: Any) -> list[tuple[str, list[str]]]:
    """Every path of the router, with the methods that it takes."""
    return [
        (route.path, [method.method for method in route.methods if not method.internal])
        for route in inspect_routes(app)
    ]


_integers = st.sampled_from(
    [0, -1, 1, 2, 100, 101, 600, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**400, TIME_MAX + 1]
)
_floats = st.floats() | st.sampled_from([1.0, 0.1, 1e308, 1e-308])
_texts = st.text(max_size=20) | st.sampled_from(
    ["\x00", "\ud800", "\U0010ffff", "queued", "complete", "x" * 5000, _NO_UID, "٣"]
)
_scalars = st.none() | st.booleans() | _integers | _floats | _texts
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=8,
)
_deep = st.integers(1, 3000).map(lambda depth: b"[" * depth + b"]" * depth)


_seldom = st.sampled_from([False] * 9 + [True])


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@st.composite
def _mostly(draw: st.DrawFn, good: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> Any:
    """The good one most of the time."""
    return draw(other if draw(_seldom) else good)


def _fields(known: Known) -> dict[str, st.SearchStrategy[Any]]:
    """The fields of all bodies; new ones are found by their names in what is refused."""
    content = st.dictionaries(_texts, _values, max_size=3)
    return {
        "content": _mostly(content, _values),
        "valid_for": _mostly(st.integers(1, 10_000), _scalars),
        "priority": _mostly(st.integers(1, 100), _scalars),
        "status": _mostly(st.sampled_from(["queued", "inprogress", "complete", "failed"]), _values),
        "timeout_time": _mostly(st.integers(0, TIME_MAX), _scalars),
        "uid": _mostly(st.sampled_from([*known.uids, _NO_UID]), _values),
    }


def _bodies(known: Known, path: str) -> st.SearchStrategy[bytes]:
    """Bodies such as the path may want, and all others."""
    fields = _fields(known)
    changes = {name: field for name, field in fields.items() if name != "uid"}
    create = st.fixed_dictionaries({k: fields[k] for k in ("content", "valid_for", "priority")})
    change = st.fixed_dictionaries({}, optional=changes)
    named = st.fixed_dictionaries({"uid": fields["uid"]}, optional=changes)
    any_ = create | change | named | st.dictionaries(_texts, _values, max_size=4)
    services = st.lists(_mostly(st.sampled_from(["both", "*"]), _texts), max_size=3)
    minutes = _mostly(st.none() | st.integers(1, 10_000), _scalars)
    queue = st.fixed_dictionaries(
        {"read": services, "write": services},
        optional=dict.fromkeys(("job_keep_minutes", "job_timeout_minutes", "max_jobs"), minutes),
    )
    fitting = {
        "create": create,
        "{uid}": change,
        "{name}": queue,
        "jobs": st.lists(named, min_size=1, max_size=5),
    }
    wanted = fitting.get(path.rpartition("/")[2], any_)
    whole = _mostly(wanted, any_ | st.lists(any_, max_size=5)).map(_json)
    return _mostly(_bent(whole), st.binary(max_size=200) | _deep | _values.map(_json))


_often_bent = st.sampled_from([False, False, False, True])
_put_in = st.binary(max_size=8) | st.sampled_from(
    [b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"%00", b"\r\n", b",", b'"', b"{"]
)


@st.composite
def _bent(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Most of the time as it is, else with bytes changed, doubled, cut or put in."""
    data = draw(whole)
    if not draw(_often_bent):
        return data
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 40)))
    put = data[start:end] * 2 if draw(st.booleans()) else draw(_put_in)
    return data[:start] + put + data[end:]


_percent = st.binary(max_size=8).map(lambda data: "".join(f"%{byte:02x}" for byte in data))
_segments = _percent | st.sampled_from(
    ["", ".", "..", "%2e%2e", "%00", "%ff", "%", "%zz", "a" * 9000, "create", "next", "%2F", ";"]
)
_parameters = [
    "limit",
    "cursor",
    "count",
    "wait",
    "next",
    "since",
    "before",
    "offset",
    "",
    "%00",
    "limit%5B%5D",
]
_parameter_values = st.sampled_from(
    ["", "0", "-1", "x", "1.0", "1e1", "%D9%A3", "%00", "%FF", "9" * 400, "+0", "a=b", "%"]
)


def _targets(known: Known, path: str) -> st.SearchStrategy[bytes]:
    """Paths and queries of the route."""
    known_ones = [known.queue, "fuzzed"] if "{name}" in path else [*known.uids, _NO_UID]
    filled = _mostly(st.sampled_from(known_ones), _segments)
    paths = filled.map(lambda one: re.sub(r"\{[^}]*\}", lambda _: one, path))
    longer = _mostly(paths, st.builds("{}/{}".format, paths, _segments))
    value = _parameter_values | st.integers(1, 1000).map(str)
    pairs = st.builds("{}={}".format, st.sampled_from(_parameters), value)
    queries = st.lists(pairs, min_size=1, max_size=3).map(lambda all_: "?" + "&".join(all_))
    query = st.just("") | st.just("") | queries
    return st.builds("{}{}".format, longer, query).map(str.encode)


_odd = st.binary(max_size=12).map(lambda data: data.translate(None, b"\r\n"))


def _headers(known: Known) -> st.SearchStrategy[tuple[tuple[bytes, bytes], ...]]:
    names = st.sampled_from([b"both", b"reader", b"writer", b"nobody", b"*", b"x" * 201])
    states = st.sampled_from([b"queued", b"failed", b"complete", b"inprogress", b"Queued", b""])
    values = {
        b"X-Name": _mostly(st.sampled_from([b"both", b"both", b"admin"]), names | _odd),
        b"X-Queue": _mostly(st.just(known.queue.encode()), names | _odd),
    }
    others = {
        b"X-Status-Filter": _mostly(states, _odd),
        b"Prefer": st.sampled_from([b"wait=0", b"wait=x", b"wait", b"wait=-0", b",;="]) | _odd,
        b"Authorization": st.sampled_from([b"Bearer", b"Bearer je_1_2", b"Basic YTpi"]) | _odd,
        b"Content-Type": st.sampled_from([b"application/json", b"text/plain; charset=x"]) | _odd,
        b"Accept": st.sampled_from([b"*/*", b"text/html", b"application/xml;q=2"]) | _odd,
        b"Range": st.sampled_from([b"bytes=0-", b"bytes=5-1"]) | _odd,
        b"If-None-Match": st.just(b"*") | _odd,
        b"Cookie": _odd,
        b"Forwarded": _odd,
        b"X-HTTP-Method-Override": st.just(b"DELETE"),
    }
    return st.fixed_dictionaries(values, optional=others).map(
        lambda headers: tuple(headers.items())
    )


def requests(known: Known) -> st.SearchStrategy[Request]:
    """Requests to the routes that there are, good and bent; none that waits for a job."""

    others = st.sampled_from(METHODS + _ODD_METHODS)
    headers = _headers(known)
    all_ = [
        st.builds(
            Request,
            _mostly(st.sampled_from(allowed), others).map(str.encode),
            _targets(known, path),
            headers,
            _bodies(known, path),
        )
        for path, allowed in known.routes
    ]
    return st.one_of(all_).filter(lambda made: not made.waits())


def wires(known: Known) -> st.SearchStrategy[tuple[bytes, bool]]:
    """Bytes for a socket; whether they are a request that is framed as it should be."""
    sane = requests(known).filter(lambda r: r.method.decode() in METHODS)
    framed = sane.map(lambda made: (made.wire(), True))
    bent = _bent(sane.map(Request.wire)).map(lambda data: (data, False))
    noise = st.binary(max_size=300).map(lambda data: (data, False))
    return (framed | framed | framed | bent | bent | noise).filter(
        lambda made: _WAITS.search(made[0]) is None
    )
