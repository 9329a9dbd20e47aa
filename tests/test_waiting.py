"""Waiting for work: who is woken, in what order, and what ends a wait."""

import http.client
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.client import Answer, Api
from tests.harness.server import Server
from tests.test_bad_input import assert_problem

OPEN = "{read: ['*'], write: ['*']}"
CONFIG = f"version: 1\nwaiters: 20\nmetrics: ['*']\nqueues:\n  q: {OPEN}\n  r: {OPEN}\n"


SERVERS = {"waitress": (), "granian": ("--server", "granian")}


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server on the real clock: a wait is a span of real time."""
    folder = tmp_path_factory.mktemp("waiting")
    with Server(folder, CONFIG, arguments=SERVERS[request.param]) as running:
        yield running


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as executor:
        yield executor


def next_waiting(api: Api, seconds: int, count: int | None = None) -> Answer:
    query = f"?wait={seconds}" + ("" if count is None else f"&count={count}")
    return api.send("GET", f"/api/v1/jobs/next{query}")


def create_some(server: Server, jobs: int) -> list[str]:
    api = server.api()
    return [api.made()["uid"] for _ in range(jobs)]


class Waiters:
    """Clients that wait, begun one after the other."""

    def __init__(self, server: Server, pool: ThreadPoolExecutor) -> None:
        self._server, self._pool = server, pool
        self._begun = 0

    def begin(self) -> "Future[Answer]":
        """A client that waits; returns once the server has parked its claim."""
        waiting = self._pool.submit(next_waiting, self._server.api(), 30)
        self._begun += 1
        api, deadline = self._server.api(), time.monotonic() + 30
        while parked(api) < self._begun:
            assert time.monotonic() < deadline, "it waits"
        return waiting


def parked(api: Api) -> int:
    """How many claims wait on the server."""
    shown = re.search(
        rb"^jobengine_waiting_claims (\d+)", api.send("GET", "/metrics").body, re.MULTILINE
    )
    assert shown is not None
    return int(shown[1])


def test_a_job_that_is_there_is_answered_at_once(server: Server) -> None:
    api = server.api()
    made = api.made()
    assert next_waiting(api, 30).json()["uid"] == made["uid"]


def test_a_waiting_call_is_answered_when_a_job_comes(
    server: Server, pool: ThreadPoolExecutor
) -> None:
    waiting = Waiters(server, pool).begin()
    assert not waiting.done()
    made = server.api().made()
    job = waiting.result().json()
    assert (job["uid"], job["state"]) == (made["uid"], "inprogress")


def test_as_many_are_woken_as_there_are_jobs_those_that_waited_longest_first(
    server: Server, pool: ThreadPoolExecutor
) -> None:
    waiters = Waiters(server, pool)
    waiting = [waiters.begin() for _ in range(5)]
    uids = []
    for number in range(3):
        uids.append(server.api().made()["uid"])
        assert waiting[number].result().json()["uid"] == uids[-1]
    assert not any(call.done() for call in waiting[3:])
    drafts = [{"content": {"n": p}, "valid_for": 600, "priority": p} for p in (1, 9)]
    server.api().send("PUT", "/api/v1/jobs/create", drafts)
    assert [call.result().json()["priority"] for call in waiting[3:]] == [9, 1]


def test_jobs_of_another_queue_wake_nobody(server: Server, pool: ThreadPoolExecutor) -> None:
    waiting = Waiters(server, pool).begin()
    server.api("r").made()
    assert server.api("r").next().status == 200
    assert not waiting.done()
    server.api().made()
    assert waiting.result().status == 200


def test_a_job_put_back_to_queued_wakes(server: Server, pool: ThreadPoolExecutor) -> None:
    job = server.api().made("inprogress")
    waiting = Waiters(server, pool).begin()
    server.api().update(job["uid"], status="queued")
    assert waiting.result().json()["uid"] == job["uid"]


def test_a_count_is_answered_by_what_there_is(server: Server, pool: ThreadPoolExecutor) -> None:
    api = server.api()
    waiting = pool.submit(next_waiting, api, 30, 10)
    api.transport.sent.wait()  # type: ignore[attr-defined]  # an HttpTransport
    server.api().next()
    drafts = [{"content": {"n": n}, "valid_for": 600, "priority": 5} for n in range(3)]
    server.api().send("PUT", "/api/v1/jobs/create", drafts)
    assert len(waiting.result().json()) == 3


def test_the_time_is_up_with_204(server: Server) -> None:
    began = time.monotonic()
    answer = next_waiting(server.api(), 1)
    assert (answer.status, answer.body) == (204, b"")
    assert "retry-after" not in answer.headers
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("prefer", ["wait=1", 'wait="1"', "respond-async, wait=1; x=y", "WAIT = 1"])
def test_the_preference_of_rfc_7240_waits(server: Server, prefer: str) -> None:
    began = time.monotonic()
    answer = server.api().send("GET", "/api/v1/jobs/next", headers={"Prefer": prefer})
    assert answer.status == 204
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("prefer", ["wait", "wait=x", "waiting=9", "wait=-1", "respond-async"])
def test_a_preference_that_is_none_is_ignored(server: Server, prefer: str) -> None:
    answer = server.api().send("GET", "/api/v1/jobs/next", headers={"Prefer": prefer})
    assert answer.status == 204


@pytest.mark.parametrize("wait", ["61", "-1", "x", "1.5", ""])
def test_a_bad_wait_is_400(server: Server, wait: str) -> None:
    answer = server.api().send("GET", f"/api/v1/jobs/next?wait={wait}")
    assert_problem(answer, 400, "invalid-input")


def test_one_beyond_the_bound_is_turned_away_and_others_go_on(
    server: Server, pool: ThreadPoolExecutor
) -> None:
    waiters = Waiters(server, pool)
    waiting = [waiters.begin() for _ in range(20)]
    turned_away = next_waiting(server.api(), 30)
    assert turned_away.status == 204
    assert int(turned_away.headers["retry-after"]) > 0
    for _ in range(5):
        assert server.api("r").create().status == 201
        assert server.api("r").next().status == 200
        assert server.api("r").all().status in (200, 204)
    uids = create_some(server, 20)
    assert [call.result().json()["uid"] for call in waiting] == uids, "first come, first served"


def test_a_client_that_hung_up_gets_no_job(server: Server, pool: ThreadPoolExecutor) -> None:
    request = (
        b"GET /api/v1/jobs/next?wait=30 HTTP/1.1\r\nHost: localhost\r\n"
        b"X-Name: s\r\nX-Queue: q\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as gone:
        gone.sendall(request)
        server.api().next()
        server.api().next()
    waiting = Waiters(server, pool).begin()
    server.api().send("GET", "/api/v1/test")
    made = server.api().made()
    assert waiting.result().json()["uid"] == made["uid"]


def test_clients_that_hung_up_leave_their_places(server: Server) -> None:
    request = (
        b"GET /api/v1/jobs/next?wait=60 HTTP/1.1\r\nHost: localhost\r\n"
        b"X-Name: s\r\nX-Queue: q\r\n\r\n"
    )
    api = server.api()
    for _ in range(2):
        with ExitStack() as connections:
            for _ in range(20):
                gone = socket.create_connection(("127.0.0.1", server.port))
                connections.enter_context(gone).sendall(request)
        deadline = time.monotonic() + 30
        while "retry-after" in next_waiting(api, 1).headers:
            assert time.monotonic() < deadline, "it was to be noticed long before their time is up"


@pytest.mark.parametrize("kind", SERVERS)
def test_a_stop_ends_every_wait_at_once(
    tmp_path: Path, pool: ThreadPoolExecutor, kind: str
) -> None:
    server = Server(tmp_path, CONFIG, arguments=SERVERS[kind]).start()
    waiters = Waiters(server, pool)
    waiting = [waiters.begin() for _ in range(5)]
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 5
    assert [call.result().status for call in waiting] == [204] * 5


def test_waiting_claims_and_creates_race_without_a_loss(
    server: Server, pool: ThreadPoolExecutor
) -> None:
    jobs, workers = 600, 10
    done = threading.Event()

    def work() -> list[str]:
        api, got = server.api(), list[str]()
        while not done.is_set() or api.all("queued").status == 200:
            answer = next_waiting(api, 1)
            if answer.status == 200:
                got.append(answer.json()["uid"])
        return got

    working = [pool.submit(work) for _ in range(workers)]
    makers = [
        pool.submit(lambda: [server.api().made()["uid"] for _ in range(jobs // 4)])
        for _ in range(4)
    ]
    made = [uid for maker in makers for uid in maker.result()]
    done.set()
    got = [uid for worker in working for uid in worker.result()]
    assert sorted(got) == sorted(made)


def test_a_server_gone_in_the_middle_of_a_wait_hands_out_nothing(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    server = Server(tmp_path, CONFIG).start()
    waiting = Waiters(server, pool).begin()
    server.kill()
    with pytest.raises((OSError, http.client.HTTPException)):
        waiting.result()
