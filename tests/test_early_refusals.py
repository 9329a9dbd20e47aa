"""Bodies that nobody will read are refused by their head, and kept by nobody."""

import json
import re
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, Self

import pytest

from tests.harness.server import Server
from tests.test_keys import keys

PROBLEM = "application/problem+json"
MIB = 1024 * 1024
CONFIG = "version: 1\n{}queues:\n  q: {{read: [reader], write: [both, writer]}}\n"
_SECONDS = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("names"), CONFIG.format("admins: [both]\n")) as running:
        yield running


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("keys")
    with Server(folder, CONFIG.format("authentication: keys\n")) as running:
        yield running


def head(*lines: str, method: str = "PUT", path: str = "/api/v1/jobs/create") -> bytes:
    names = ("Host: localhost", "X-Queue: q")
    return "\r\n".join([f"{method} {path} HTTP/1.1", *names, *lines, "", ""]).encode()


class Connection:
    """A connection whose bytes a test sends one by one."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, method: str = "PUT") -> tuple[HTTPResponse, Any]:
        """The next answer, with its body; a 100 is none."""
        answer = HTTPResponse(self.socket, method=method)
        answer.begin()
        body = answer.read()
        return answer, json.loads(body) if answer.headers["Content-Type"] == PROBLEM else None

    def ended(self) -> bool:
        """Whether the server has ended its side."""
        return self.socket.recv(1) == b""


LENGTHS = ["Content-Length: 1000000", "Transfer-Encoding: chunked"]


@pytest.mark.parametrize("framing", LENGTHS)
@pytest.mark.parametrize("key", ["", "Authorization: Bearer nonsense"])
def test_a_body_without_a_good_key_is_refused_before_it_comes(
    keyed: Server, framing: str, key: str
) -> None:
    with Connection(keyed) as connection:
        connection.send(head(framing, *([key] if key else [])))
        answer, problem = connection.answer()
    assert (answer.status, problem["type"]) == (401, "urn:jobengine:problem:unauthenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="JobEngine"'
    assert answer.headers["Content-Type"] == PROBLEM


REFUSED = {
    "no right": (head("X-Name: reader", LENGTHS[0]), 403),
    "no right, chunked": (head("X-Name: reader", LENGTHS[1]), 403),
    "no right to update": (
        head("X-Name: other", LENGTHS[0], method="POST", path="/api/v1/jobs/x"),
        403,
    ),
    "no right to claim": (
        head("X-Name: writer", LENGTHS[0], method="POST", path="/api/v1/jobs?next=3"),
        403,
    ),
    "no admin": (head("X-Name: writer", LENGTHS[0], path="/api/v1/queues/new"), 403),
    "no name": (head(LENGTHS[0]), 400),
    "too long": (head("X-Name: both", "Content-Length: 1048577"), 413),
    "much too long": (head("X-Name: both", "Content-Length: 9999999999"), 413),
    "no path": (head(LENGTHS[0], path="/nowhere"), 404),
    "no method": (head(LENGTHS[0], method="PATCH"), 405),
    "another host": (head("X-Name: both", LENGTHS[0]).replace(b"localhost", b"evil.example"), 421),
    "a page": (head("Content-Length: 9000000", method="POST", path="/login"), 400),
}


@pytest.mark.parametrize(("request_", "status"), REFUSED.values(), ids=REFUSED)
def test_what_the_head_shows_is_refused_before_the_body_comes(
    server: Server, request_: bytes, status: int
) -> None:
    with Connection(server) as connection:
        connection.send(request_)
        answer, _ = connection.answer()
    assert answer.status == status


@pytest.mark.parametrize("length", [MIB + 1, 2 * MIB, 2 * MIB + 1])
def test_a_length_that_is_too_long_is_refused_on_either_side_of_what_is_drained(
    server: Server, length: int
) -> None:
    with Connection(server) as connection:
        connection.send(head("X-Name: both", f"Content-Length: {length}"))
        answer, _ = connection.answer()
        assert answer.status == 413
        assert (answer.headers["Connection"] == "close") is (length > 2 * MIB)
        if length > 2 * MIB:
            assert connection.ended()


def body(size: int, *, chunked: bool) -> bytes:
    data = b"x" * size
    return b"%x\r\n%b\r\n0\r\n\r\n" % (size, data) if chunked else data


@pytest.mark.parametrize(
    ("size", "chunked"),
    [(100_000, False), (100_000, True), (MIB, False), (MIB, True), (2 * MIB, False)],
)
def test_a_client_that_sends_all_of_a_refused_body_meets_the_answer_and_goes_on(
    server: Server, size: int, chunked: bool
) -> None:
    framing = LENGTHS[1] if chunked else f"Content-Length: {size}"
    with Connection(server) as connection:
        for _ in range(2):
            connection.send(head("X-Name: reader", framing) + body(size, chunked=chunked))
            assert connection.answer()[0].status == 403
        connection.send(head("X-Name: writer", "Content-Length: 2") + b"{}")
        assert connection.answer()[0].status == 400


@pytest.mark.parametrize("lines", [["Connection: close"], []], ids=["close", "HTTP/1.0"])
def test_so_does_one_whose_connection_ends_with_the_answer(
    server: Server, lines: list[str]
) -> None:
    request = head("X-Name: reader", f"Content-Length: {MIB}", *lines)
    if not lines:
        request = request.replace(b"HTTP/1.1", b"HTTP/1.0")
    with Connection(server) as connection:
        connection.send(request)
        for _ in range(16):
            connection.send(b"x" * (MIB // 16))
        answer, _ = connection.answer()
        assert answer.status == 403
        assert connection.ended()


def test_what_follows_a_refused_body_is_the_next_request_and_nothing_in_it_is(
    server: Server,
) -> None:
    inside = head("X-Name: writer", method="GET", path="/api/v1/test")
    refused = head("X-Name: reader", f"Content-Length: {len(inside) + 20_000}")
    last = head("Connection: close", method="GET", path="/livez")
    answers = b""
    with Connection(server) as connection:
        connection.send(refused + inside + b"x" * 20_000 + inside + last)
        while data := connection.socket.recv(65536):
            answers += data
    assert re.findall(rb"HTTP/1.1 ([0-9]+)", answers) == [b"403", b"200", b"200"]


EXPECT = "Expect: 100-continue"


def test_a_client_that_waits_for_leave_gets_the_refusal_and_no_100(server: Server) -> None:
    with Connection(server) as connection:
        connection.send(head("X-Name: reader", "Content-Length: 60", EXPECT))
        assert connection.socket.recv(15) == b"HTTP/1.1 403 Fo"
        while connection.socket.recv(1000):
            pass


def test_a_client_that_waits_for_leave_gets_it_where_it_has_the_right(server: Server) -> None:
    job = b'{"content": {}, "valid_for": 60, "priority": 5}'
    with Connection(server) as connection:
        connection.send(head("X-Name: writer", f"Content-Length: {len(job)}", EXPECT))
        assert connection.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(job)
        assert connection.answer()[0].status == 201


@pytest.mark.parametrize("lines", [[], ["Content-Length: 0"]], ids=["no body", "an empty one"])
def test_a_client_that_waits_for_leave_to_send_nothing_is_answered(
    server: Server, lines: list[str]
) -> None:
    request = head("X-Name: both", EXPECT, *lines, method="GET", path="/livez")
    with Connection(server) as connection:
        for _ in range(2):
            connection.send(request)
            assert connection.socket.recv(15) == b"HTTP/1.1 200 OK"
            while not connection.socket.recv(1000).endswith(b"}"):
                pass


GATHERED = {"a size": b"0;" + b"a" * 5000, "a trailer": b"0\r\n" + b"a" * 17_000}


@pytest.mark.parametrize(("name", "status"), [("reader", 403), ("writer", 400)])
@pytest.mark.parametrize("chunk", GATHERED.values(), ids=GATHERED)
def test_a_chunk_whose_size_or_trailer_does_not_end_is_not_gathered(
    server: Server, name: str, status: int, chunk: bytes
) -> None:
    """waitress goes through all that it has of either at each read: a byte took 0.4 ms."""
    with Connection(server) as connection:
        connection.send(head(f"X-Name: {name}", "Transfer-Encoding: chunked") + chunk)
        answer, _ = connection.answer()
        assert answer.status == status
        assert connection.ended()


@pytest.mark.parametrize(("name", "status"), [("reader", 403), ("writer", 201)])
def test_a_chunk_with_an_extension_and_a_trailer_is_taken(
    server: Server, name: str, status: int
) -> None:
    job = b'{"content": {}, "valid_for": 60, "priority": 5}'
    chunked = b"%x;%b\r\n%b\r\n0\r\nX-Sum: %b\r\n\r\n" % (len(job), b"a" * 2000, job, b"1" * 9000)
    with Connection(server) as connection:
        for _ in range(2):
            connection.send(head(f"X-Name: {name}", "Transfer-Encoding: chunked") + chunked)
            assert connection.answer()[0].status == status


@pytest.mark.parametrize("framing", LENGTHS)
def test_a_large_body_with_the_right_is_read(keyed: Server, framing: str) -> None:
    key = keys(keyed, "create", "writer").strip()
    job = json.dumps({"content": {"a": "x" * 999_900}, "valid_for": 60, "priority": 5}).encode()
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(job), job)
    line = framing.replace("1000000", str(len(job)))
    with Connection(keyed) as connection:
        connection.send(head(line, f"Authorization: Bearer {key}"))
        connection.send(chunked if "chunked" in framing else job)
        assert connection.answer()[0].status == 201


def resident(server: Server) -> int:
    """The bytes of memory that the server holds."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def test_bodies_without_a_key_take_no_memory(keyed: Server) -> None:
    before = resident(keyed)
    with ExitStack() as connections:
        for _ in range(100):
            connection = connections.enter_context(Connection(keyed))
            connection.send(head(LENGTHS[0]) + b"x" * 999_999)
            assert connection.answer()[0].status == 401
        assert resident(keyed) - before < 20 * MIB


def test_bodies_that_do_not_end_take_a_bounded_sum_of_memory(tmp_path: Path) -> None:
    """There is room for 64 MiB, so of 70 bodies of just under 1 MiB at least 6 are refused."""
    job = b'{"content": {}, "valid_for": 60, "priority": 5}'
    request = head("X-Name: both", f"Content-Length: {MIB}")
    with Server(tmp_path, CONFIG.format("")) as server, ExitStack() as connections:
        held = {}
        for _ in range(70):
            connection = connections.enter_context(Connection(server))
            connection.send(request + job.ljust(MIB - 1))
            held[connection.socket] = connection
        refused = 0
        while refused < 6:
            answered = select.select(held, [], [], _SECONDS)[0]
            assert answered, "all of them are kept"
            for one in answered:
                answer, problem = held.pop(one).answer()
                assert (answer.status, problem["type"]) == (503, "urn:jobengine:problem:busy")
                assert answer.headers["Retry-After"] == "1"
                refused += 1
        assert server.api(service="both").create().status == 201  # a small one has room
        finished, gone = list(held.values())[:10], list(held.values())[10:]
        for connection in finished:
            connection.send(b" ")
            assert connection.answer()[0].status == 201
        for connection in gone:
            connection.socket.close()
        for _ in range(66):  # the room of those that ended and of those that went is free
            with Connection(server) as connection:
                connection.send(request + job.ljust(MIB))
                assert connection.answer()[0].status == 201


@pytest.mark.parametrize("ahead", [False, True], ids=["not complete", "behind a claim that waits"])
def test_what_clients_that_went_had_sent_takes_no_memory(tmp_path: Path, ahead: bool) -> None:
    claim = head("X-Name: both", "Prefer: wait=60", method="GET", path="/api/v1/jobs/next")
    request = head("X-Name: both", f"Content-Length: {MIB}") + b"x" * (MIB - (not ahead))
    with Server(tmp_path, CONFIG.format("")) as server:
        api = server.api(service="both")
        before = resident(server)
        for _ in range(10):
            with ExitStack() as connections:
                for _ in range(40):
                    connection = connections.enter_context(Connection(server))
                    connection.send((claim if ahead else b"") + request)
                    # A reset: an end alone would end the claim, and begin the next request.
                    linger = struct.pack("ii", 1, 0)
                    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                for _ in range(20):  # meanwhile the server reads what the others sent
                    assert api.get("0" * 32).status == 404
        assert resident(server) - before < 60 * MIB
