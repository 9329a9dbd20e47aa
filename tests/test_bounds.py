"""What a stranger sends costs little, however it was made up."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from jobengine.domain.errors import InvalidInput, Mistake
from tests.conftest import Running
from tests.harness.client import Answer, Api, WsgiTransport
from tests.test_bad_input import CREATE, NO_UID, assert_problem

MAX = 1024 * 1024
ANSWER_MAX = 8 * 1024
# Calls of functions that an answer may take: a good create takes about 700.
CALLS_MAX = 3_000


def fields(number: int, name: str = "{}") -> bytes:
    return b"{%b}" % b",".join(b'"%b":1' % name.format(i).encode() for i in range(number))


HOSTILE = {
    "unknown fields": fields(100_000),
    "the same field": b"{%b}" % b",".join([b'"priority":0'] * 80_000),
    "long names": fields(20, "{}" + "n" * 40_000),
    "a name to escape": fields(1, "/" * 500_000 + "{}"),
    "a long integer": b'{"priority":%b}' % (b"9" * 1_000_000),
    "a long exponent": b'{"priority":1e%b}' % (b"9" * 1_000_000),
    "a long text": b'{"status":"%b"}' % (b"x" * 1_000_000),
    "deep": b'{"priority":' + b"[" * 1_000_000,
    "numbers": b"[%b]" % b",".join([b"1"] * 500_000),
    "empty objects": b"[%b]" % b",".join([b"{}"] * 300_000),
    "bad objects": b"[%b]" % b",".join([fields(100)] * 1000),
    "objects without their fields": b"[%b]" % b",".join([b"{}"] * 1000),
    "too long": b"x" * (MAX + 1),
}
CALLS = (("PUT", CREATE), ("POST", f"/api/v1/jobs/{NO_UID}"), ("POST", "/api/v1/jobs"))


def calls_of(run: Callable[[], Answer]) -> tuple[int, Answer]:
    """How many functions were called for an answer, those in C included."""
    called = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal called
        called += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        answer = run()
    finally:
        sys.setprofile(None)
    return called, answer


@pytest.fixture
def inside(running: Running, queue: str) -> Api:
    """A client of the application: what a request costs has nothing to do with the database."""
    return Api(WsgiTransport(running.service("sqlcipher").site), queue)


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_hostile_body_costs_a_bounded_number_of_calls_and_a_short_answer(
    inside: Api, method: str, path: str, body: bytes
) -> None:
    called, answer = calls_of(lambda: inside.send(method, path, body))
    assert answer.status in (400, 413)
    assert called < CALLS_MAX
    assert len(answer.body) < ANSWER_MAX
    assert len(answer.json().get("errors", ())) <= 20


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_so_does_a_hostile_queue(inside: Api, body: bytes) -> None:
    admin = inside.as_service("admin")
    called, answer = calls_of(lambda: admin.send("PUT", "/api/v1/queues/hostile", body))
    assert answer.status in (400, 413)
    assert called < CALLS_MAX
    assert len(answer.body) < ANSWER_MAX


def test_a_queue_with_many_bad_names_is_refused_for_the_first(inside: Api) -> None:
    body = b'{"read":[%b]}' % b",".join([b'","'] * 9_000)
    admin = inside.as_service("admin")
    called, answer = calls_of(lambda: admin.send("PUT", "/api/v1/queues/hostile", body))
    assert len(assert_problem(answer, 400)["errors"]) == 20
    assert called < CALLS_MAX


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/jobs/next", "/api/v1/queues"])
@pytest.mark.parametrize("query", ["".join(f"&{i}=" for i in range(4_000)), "n" * 28_000 + "=1"])
def test_a_hostile_query_gets_a_short_answer(inside: Api, path: str, query: str) -> None:
    answer = inside.send("GET", f"{path}?{query}")
    assert 1 <= len(assert_problem(answer, 400)["errors"]) <= 20
    assert len(answer.body) < ANSWER_MAX


def test_a_long_name_of_a_queue_is_not_sent_back(inside: Api) -> None:
    answer = inside.as_service("admin").send("GET", f"/api/v1/queues/{'é' * 9_000}")
    assert_problem(answer, 404, "unknown-queue")
    assert len(answer.body) < 1_000


BACKSLASHES = "\\" * 31_000
COOKIES = {
    "backslashes": f'jobengine_session="{BACKSLASHES}"',
    "backslashes for another": f'another="{BACKSLASHES}"',
    "a mark": f'jobengine_known="{BACKSLASHES}"',
    "a notice": f'jobengine_notice="{BACKSLASHES}"',
    "many": ";".join(["jobengine_session"] * 1_700),
}


@pytest.mark.parametrize("cookie", COOKIES.values(), ids=COOKIES)
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/login"), ("POST", "/logout")])
def test_a_hostile_cookie_costs_no_more_than_another(
    inside: Api, method: str, path: str, cookie: str
) -> None:
    inside.send(method, path)
    plain, _ = calls_of(lambda: inside.send(method, path))
    called, answer = calls_of(lambda: inside.send(method, path, headers={"Cookie": cookie}))
    assert answer.status in (200, 303)
    assert called < plain + 8_000  # a few for each cookie that is named


BODIES: dict[str, bytes | None] = {
    "none": None,
    "no JSON": b"nonsense",
    "mistakes": b'{"priority":0}',
    "too long": b"x" * (MAX + 1),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_rights_come_before_bodies(api: Api, body: bytes | None) -> None:
    for method, path in CALLS:
        assert_problem(api.as_service("nobody").send(method, path, body), 403, "forbidden")
        elsewhere = Api(api.transport, "nowhere")
        assert_problem(elsewhere.send(method, path, body), 404, "unknown-queue")
    for method, path in CALLS[1:]:  # which claims, too
        answer = api.as_service("writer").send(method, f"{path}?next=1", body)
        assert_problem(answer, 403, "forbidden")
    assert_problem(api.send("PUT", "/api/v1/queues/a,b", body), 403, "forbidden")


def test_an_error_takes_the_first_twenty_mistakes_and_asks_for_no_more() -> None:
    asked = 0

    def mistakes(number: int) -> Any:
        nonlocal asked
        for asked in range(1, number + 1):
            yield Mistake("pointer", f"/{asked}", "expected none")

    for number in (1, 20):
        assert len(InvalidInput(mistakes(number)).mistakes) == number
    error = InvalidInput(mistakes(1_000))
    assert (len(error.mistakes), asked) == (20, 20)


@pytest.mark.parametrize(("length", "shown"), [(99, 99), (100, 100), (101, 100), (10**6, 100)])
def test_a_place_is_shown_with_a_hundred_characters_at_most(length: int, shown: int) -> None:
    place = Mistake("pointer", "/" * length, "expected none").place
    assert len(place) == shown
    assert place.endswith("…") is (length > 100)
