"""Clients that take for ever: to send a head, to send a body, to take an answer."""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.server import Server
from tests.test_http import head

CONFIG = """\
version: 1
request_seconds: 1
max_body_bytes: {body}
threads: 4
queues:
  q: {{read: ['*'], write: ['*']}}
"""
_PATIENCE_SECONDS = 30
LARGE = 1024 * 1024


@pytest.fixture(params=["waitress", "granian"])
def http(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(tmp_path: Path, http: str) -> Iterator[Server]:
    """A server whose clients have a second for a head, and a quarter more for a body."""
    with Server(tmp_path, CONFIG.format(body=1024), arguments=("--server", http)) as running:
        yield running


def dribble(server: Server, began: bytes, rest: bytes) -> tuple[int, bytes]:
    """Sends the rest byte by byte; how many were taken, and what came back in the end."""
    deadline, taken, answer = time.monotonic() + _PATIENCE_SECONDS, 0, b""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(began)
        while time.monotonic() < deadline:
            if select.select([connection], [], [], 0.05)[0]:
                with suppress(ConnectionResetError):
                    while data := connection.recv(65536):
                        answer += data
                return taken, answer
            with suppress(ConnectionError):
                connection.sendall(rest[taken : taken + 1])
            taken += 1
    raise AssertionError("the server waits for the rest still")


def test_a_head_that_does_not_end_is_given_up(server: Server, http: str) -> None:
    started = head("q", method="GET", path="/api/v1/jobs")[:-2] + b"X-Long: "
    taken, answer = dribble(server, started, b"x" * 1000)
    assert 0 < taken < 1000
    assert http == "granian" or answer.startswith(b"HTTP/1.0 408 ")
    assert server.api().next().status == 204


def test_a_body_that_does_not_end_is_given_up(server: Server) -> None:
    taken, answer = dribble(server, head("q", "Content-Length: 1000"), b"x" * 1000)
    assert 0 < taken < 1000
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer
    assert server.api().next().status == 204


def test_chunks_that_do_not_end_are_given_up(server: Server) -> None:
    taken, answer = dribble(server, head("q", "Transfer-Encoding: chunked"), b"1\r\nx\r\n" * 500)
    assert 0 < taken < 3000
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_call_that_waits_for_a_job_is_not_slow(server: Server) -> None:
    """It has sent all of its request, and so has the one that follows it on the connection."""
    asked = head("q", method="GET", path="/api/v1/jobs/next?wait=3")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(asked)
        connection.settimeout(_PATIENCE_SECONDS)
        assert connection.recv(100).startswith(b"HTTP/1.1 204 ")


def test_a_slow_start_of_the_next_request_counts_from_the_last_answer(tmp_path: Path) -> None:
    """While a call is worked on, what follows it is not read, and is not late."""
    with Server(tmp_path, CONFIG.format(body=1024)) as server:
        asked = head("q", method="GET", path="/api/v1/jobs/next?wait=3")
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.settimeout(_PATIENCE_SECONDS)
            connection.sendall(asked + asked[:20])
            assert connection.recv(1000).startswith(b"HTTP/1.1 204 ")
            connection.sendall(asked[20:].replace(b"wait=3", b"wait=0"))
            assert connection.recv(1000).startswith(b"HTTP/1.1 204 ")


def test_a_list_that_is_not_taken_is_given_up(tmp_path: Path, http: str) -> None:
    """Of four threads lists may hold one, so the next list shows that it is free again."""
    with Server(tmp_path, CONFIG.format(body=2 * LARGE), arguments=("--server", http)) as server:
        api = server.api()
        for _ in range(24):
            assert api.create({"filler": "x" * LARGE}).status == 201
        with socket.socket() as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.connect(("127.0.0.1", server.port))
            stalled.sendall(head("q", method="GET", path="/api/v1/jobs"))
            assert stalled.recv(1)
            deadline, busy = time.monotonic() + _PATIENCE_SECONDS, 0
            while (answer := api.all()).status == 503:
                busy += 1
                assert time.monotonic() < deadline, "the list is held still"
            assert busy, "the stalled list held the one thread"
            assert answer.status == 200
