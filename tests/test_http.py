"""HTTP itself, on a raw socket: what is malformed, lies, is too long, or comes slowly."""

import contextlib
import json
import re
import socket
from http.client import HTTPResponse

import pytest

from tests.conftest import Running
from tests.harness.server import Server

GOOD = b'{"content":{"a":1},"valid_for":600,"priority":50}'


def head(queue: str, *lines: str, method: str = "PUT", path: str = "/api/v1/jobs/create") -> bytes:
    names = (f"{method} {path} HTTP/1.1", "Host: localhost", "X-Name: both", f"X-Queue: {queue}")
    return "\r\n".join((*names, *lines, "", "")).encode("latin-1")


@pytest.fixture(scope="module")
def server(running: Running) -> Server:
    """One server: what it makes of bytes has nothing to do with the database."""
    return running.server("sqlcipher")


def converse(server: Server, *parts: bytes, hang_up: bool = True) -> bytes:
    """Sends the parts, stops sending, and gives all that comes back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
        if hang_up:
            with contextlib.suppress(OSError):  # it may have been refused and closed already
                connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # it has heard enough
            while data := connection.recv(65536):
                answer += data
        return answer


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d+) ", answer)]


def problem_of(answer: bytes) -> dict[str, object]:
    """The problem in the answer's body."""
    assert b"Content-Type: application/problem+json" in answer
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2]))


def listed(server: Server, queue: str) -> int:
    return len(server.api(queue).listed())


def test_a_missing_content_length_is_an_empty_body(server: Server, queue: str) -> None:
    answer = converse(server, head(queue, "Connection: close"))
    assert statuses(answer) == [400]
    assert "empty" in str(problem_of(answer))


def test_a_content_length_that_is_too_short_creates_nothing(server: Server, queue: str) -> None:
    answer = converse(server, head(queue, "Content-Length: 10"), GOOD)
    assert statuses(answer)[0] == 400
    assert listed(server, queue) == 0


def test_a_content_length_that_is_too_long_creates_nothing(server: Server, queue: str) -> None:
    answer = converse(server, head(queue, "Content-Length: 5000"), GOOD)
    assert statuses(answer) in ([], [400])
    assert listed(server, queue) == 0


@pytest.mark.parametrize("length", ["-1", "x", "1.0", "0x10", "1, 2", "+5", "9" * 100])
def test_a_content_length_that_is_no_number_is_refused(
    server: Server, queue: str, length: str
) -> None:
    answer = converse(server, head(queue, f"Content-Length: {length}"), GOOD)
    assert statuses(answer)[0] in (400, 413)
    assert problem_of(answer)["status"] == statuses(answer)[0]
    assert listed(server, queue) == 0


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 49", "Content-Length: 50"),
        ("Transfer-Encoding: chunked", "Content-Length: 49"),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding: chunked, chunked",),
        ("Bad Header",),
        ("Bad\x00Header: x",),
        (" folded: x",),
        ("X-Long: " + "x" * 33_000,),
    ],
)
def test_what_is_no_proper_http_is_refused_as_a_problem(
    server: Server, queue: str, lines: tuple[str, ...]
) -> None:
    answer = converse(server, head(queue, *lines), GOOD + b"\r\n")
    assert 400 <= statuses(answer)[0] <= 501
    assert statuses(answer)[0] != 500
    assert answer.count(b"application/problem+json") == len(statuses(answer))
    assert listed(server, queue) == 0


@pytest.mark.parametrize(
    "request_line",
    [
        b"nonsense",
        b"GET",
        b"\x16\x03\x01",
        b"GET http://[::1/ HTTP/1.1",
        b"GET //[/ HTTP/1.1",
    ],
)
def test_a_request_line_that_is_none_is_refused(server: Server, request_line: bytes) -> None:
    answer = converse(server, request_line + b"\r\nHost: localhost\r\n\r\n")
    assert [400 <= status < 500 for status in statuses(answer)] == [True]
    problem_of(answer)


def test_a_chunked_body_is_read(server: Server, queue: str) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (GOOD[:20], GOOD[20:]))
    answer = converse(server, head(queue, "Transfer-Encoding: chunked"), chunks + b"0\r\n\r\n")
    assert statuses(answer) == [201]
    assert listed(server, queue) == 1


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 3 * 1024 * 1024, 40 * 1024 * 1024])
def test_a_body_over_the_limit_is_413_as_a_problem(server: Server, queue: str, size: int) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head(queue, f"Content-Length: {size}"))
        block, sent = b"x" * 65536, 0
        try:
            while sent < size:
                sent += connection.send(block[: size - sent])
        except ConnectionError:
            pass  # it has heard enough
        answer = connection.recv(65536)
    assert statuses(answer) == [413]
    assert problem_of(answer)["status"] == 413
    assert listed(server, queue) == 0


@pytest.mark.parametrize("http", ["waitress", "granian"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_too_long_a_body_meets_the_413(
    running: Running, queue: str, http: str, chunked: bool
) -> None:
    """And the connection serves on, however late the rest of the body comes."""
    server, size = running.server("sqlcipher", http), 1024 * 1024 + 1
    lines = ["Transfer-Encoding: chunked"] if chunked else [f"Content-Length: {size}"]
    framing = (f"{size:x}\r\n".encode(), b"\r\n0\r\n\r\n") if chunked else (b"", b"")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head(queue, *lines) + framing[0])
        for _ in range(size // 1024):
            connection.sendall(b"x" * 1024)
        connection.sendall(b"x" * (size % 1024) + framing[1])
        answer = HTTPResponse(connection)
        answer.begin()
        assert answer.status == 413
        assert "1048576" in json.loads(answer.read())["detail"]
        connection.sendall(head(queue, method="GET", path="/api/v1/test"))
        answer = HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200


@pytest.mark.parametrize("header", ["X-Name: both", "X-Name: other", "X-Queue: queue1"])
def test_a_repeated_name_is_refused(server: Server, queue: str, header: str) -> None:
    answer = converse(server, head(queue, header, "Content-Length: 49"), GOOD)
    assert statuses(answer) == [400]
    assert header.partition(":")[0] in str(problem_of(answer)["detail"])
    assert listed(server, queue) == 0


def test_a_repeated_filter_is_refused(server: Server, queue: str) -> None:
    lines = ("X-Status-Filter: queued", "X-Status-Filter: queued")
    answer = converse(server, head(queue, *lines, method="GET", path="/api/v1/jobs"))
    assert statuses(answer) == [400]


@pytest.mark.parametrize(
    "method", ["FOO", "get", "PATCH", "TRACE", "PROPFIND", "CONNECT", "WEBSOCKET"]
)
def test_an_unknown_method_is_a_4xx(server: Server, queue: str, method: str) -> None:
    answer = converse(server, head(queue, method=method, path="/api/v1/jobs"))
    assert 400 <= statuses(answer)[0] < 500
    problem_of(answer)


def test_pipelined_requests_are_answered_in_order(server: Server, queue: str) -> None:
    create = head(queue, f"Content-Length: {len(GOOD)}") + GOOD
    claim = head(queue, method="GET", path="/api/v1/jobs/next")
    assert statuses(converse(server, create + claim + claim)) == [201, 200, 204]


def test_a_connection_is_kept_alive_after_every_answer(server: Server, queue: str) -> None:
    api = server.api(queue)
    for answer in (api.next(), api.all(), api.get("x"), api.create(content=[])):
        assert "connection" not in answer.headers, answer
    closing = head(queue, "Connection: close", method="GET", path="/api/v1/jobs/next")
    assert b"Connection: close" in converse(server, closing, hang_up=False)
    for _ in range(3):
        api.made()
        assert "connection" not in api.all().headers


def test_the_server_says_nothing_of_itself(server: Server, queue: str) -> None:
    assert "server" not in server.api(queue).next().headers
    assert b"waitress" not in converse(server, b"nonsense\r\n\r\n").lower()
