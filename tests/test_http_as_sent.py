"""HTTP as clients, proxies and strangers send it: each is answered at once, by the RFC.

Waitress keeps to all of it. What granian's own HTTP does otherwise stands in KNOWN; its next
front is to hold these too.
"""

import json
import re
import socket
from typing import NamedTuple

import pytest

from tests.conftest import Running
from tests.harness.server import Server
from tests.test_http import GOOD, head

_SECONDS = 20
LENGTH = f"Content-Length: {len(GOOD)}"
CHUNKED = "Transfer-Encoding: chunked"


class Sent(NamedTuple):
    """What came back, and whether the server ended the connection after it."""

    statuses: list[int]
    ended: bool
    answer: bytes

    def problem(self) -> dict[str, object]:
        """The problem that is the whole body of the one answer."""
        start, _, body = self.answer.partition(b"\r\n\r\n")
        assert b"application/problem+json" in start, self.answer
        return dict(json.loads(body))


@pytest.fixture(scope="module", params=["waitress", "granian"])
def server(request: pytest.FixtureRequest, running: Running) -> Server:
    """One of each HTTP server: what it makes of bytes has nothing to do with the database."""
    return running.server("sqlcipher", request.param)


def send(server: Server, request: bytes) -> Sent:
    """Sends it, then a request that only a connection still open answers, and reads to the end."""
    last = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=_SECONDS) as connection:
        connection.sendall(request)
        while not _whole(answer) and (data := connection.recv(65536)):
            answer += data
        probe = b""
        try:
            connection.sendall(last)
            while data := connection.recv(65536):
                probe += data
        except ConnectionError:
            pass  # it has ended the connection
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d+) ", answer)]
    return Sent(statuses, not _whole(probe), answer)


def _whole(answer: bytes) -> bool:
    """Whether a final answer has come with all of its body."""
    answer = re.sub(rb"^HTTP/1.1 100 [^\r]*\r\n\r\n", b"", answer)
    start, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", start)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


def skip_known(request: pytest.FixtureRequest, server: Server, reason: str) -> None:
    """Marks what granian does not do."""
    if reason and request.node.callspec.params["server"] == "granian":
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


def get(path: str = "/livez", *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join(
        (f"{method} {path} HTTP/{version}", "Host: localhost", *lines, "", "")
    ).encode("latin-1")


def hosted(host: str) -> bytes:
    return f"GET /livez HTTP/1.1\r\nHost:{host}\r\n\r\n".encode("latin-1")


UPGRADES = {
    "websocket": (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "websocket in capitals": ("UPGRADE: WebSocket", "CONNECTION: keep-alive, UPGRADE"),
    "h2c": ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"),
}


@pytest.mark.parametrize("lines", UPGRADES.values(), ids=UPGRADES)
def test_a_claim_that_asks_for_another_protocol_is_answered_with_its_job(
    server: Server, queue: str, lines: tuple[str, ...]
) -> None:
    job = server.api(queue).made()
    sent = send(server, head(queue, *lines, method="GET", path="/api/v1/jobs/next"))
    assert sent.statuses == [200]
    assert job["uid"].encode() in sent.answer
    assert send(server, get("/nowhere", *lines)).statuses == [404]


# Whether the connection ends (RFC 9110, section 7.6.1, and RFC 9112, section 9.3).
CONNECTIONS = {
    "nothing": ("1.1", (), False),
    "close": ("1.1", ("Connection: close",), True),
    "Close": ("1.1", ("Connection: Close",), True),
    "among others": ("1.1", ("Connection: TE, close",), True),
    "first of all": ("1.1", ("Connection: close , TE",), True),
    "without a space": ("1.1", ("Connection: TE,close",), True),
    "empty members": ("1.1", ("Connection: ,,close,",), True),
    "on a second line": ("1.1", ("Connection: TE", "Connection: close"), True),
    "over keep-alive": ("1.1", ("Connection: keep-alive", "connection: CLOSE"), True),
    "part of a word": ("1.1", ("Connection: closed",), False),
    "keep-alive": ("1.1", ("Connection: keep-alive",), False),
    "1.0": ("1.0", (), True),
    "1.0 keep-alive": ("1.0", ("Connection: Keep-Alive",), False),
    "1.0 keep-alive among others": ("1.0", ("Connection: TE, keep-alive",), False),
    "1.0 close": ("1.0", ("Connection: close",), True),
    "1.0 both": ("1.0", ("Connection: keep-alive, close",), True),
}


@pytest.mark.parametrize(("version", "lines", "ends"), CONNECTIONS.values(), ids=CONNECTIONS)
def test_a_connection_ends_when_the_client_says_so(
    server: Server, version: str, lines: tuple[str, ...], ends: bool
) -> None:
    sent = send(server, get("/livez", *lines, version=version))
    assert (sent.statuses, sent.ended) == ([200], ends)


EMPTY = "granian's HTTP refuses it without a body"
PASSED = "granian's HTTP lets it through"
TLS = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64, 128)) * 8
# What is sent, the status, and why granian does otherwise.
REFUSED: dict[str, tuple[bytes, int, str]] = {
    "TLS": (TLS, 400, EMPTY),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 505, EMPTY),
    "NUL": (b"\0" * 50, 400, EMPTY),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", 400, EMPTY),
    "PROXY": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", 400, EMPTY),
    "PROXY, version 2": (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 400, EMPTY),
    "HTTP/0.9": (b"GET /livez\r\n", 400, EMPTY),
    "bare LF": (b"GET /livez HTTP/1.1\nHost: localhost\n\n", 400, PASSED),
    "bare LF in a header": (b"GET /livez HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n", 400, PASSED),
    "a folded header": (get("/livez", "X-A: 1", " 2"), 400, EMPTY),
    "a name with a parenthesis": (get("/livez", "X(: 1"), 400, EMPTY),
    "a NUL in a header": (get("/livez", "X: a\0b"), 400, EMPTY),
    "HTTP/2.0": (get(version="2.0"), 505, EMPTY),
    "HTTP/1.2": (get(version="1.2"), 505, EMPTY),
    "HTTP/9.9": (get(version="9.9"), 505, EMPTY),
    "a method in small letters": (get(method="get"), 400, ""),
    "CONNECT": (b"CONNECT h:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n", 400, EMPTY),
    "an asterisk for GET": (get("*"), 400, PASSED),
    "no slash": (get("livez"), 400, PASSED),
    "two slashes": (get("//livez"), 400, PASSED),
    "two slashes, one encoded": (get("/%2Flivez"), 400, PASSED),
    "a fragment": (get("/livez#part"), 400, PASSED),
    "a control character": (get("/livez\x01"), 400, EMPTY),
    "no ASCII": (get("/liv\xe9z"), 400, PASSED),
    "another scheme": (get("ftp://h/livez"), 400, PASSED),
    "a host with a name before it": (hosted(" user@h"), 400, PASSED),
    "a host with a space": (hosted(" a b"), 400, PASSED),
    "a host with a path": (hosted(" h/x"), 400, PASSED),
    "a port that is no number": (hosted(" h:http"), 400, PASSED),
    "a name before the host of the target": (get("http://user@h/livez"), 400, PASSED),
    "an expectation": (get("/livez", "Expect: tea"), 417, PASSED),
    "an expectation and another": (get("/livez", "Expect: 100-continue, tea"), 417, PASSED),
    "a target that is too long": (get("/" + "a" * 40_000), 431, PASSED),
}


@pytest.mark.parametrize(("request_", "status", "known"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_answered_is_refused_at_once_as_a_problem(
    request: pytest.FixtureRequest, server: Server, request_: bytes, status: int, known: str
) -> None:
    skip_known(request, server, known)
    sent = send(server, request_)
    assert sent.statuses == [status]
    assert sent.problem()["status"] == status
    assert sent.problem()["detail"]


def test_a_refusal_repeats_nothing_of_the_head(running: Running) -> None:
    lines = ("Authorization: Bearer hidden\nX: y", "Authorization: Bearer hidden\r\n folded")
    for line in lines:
        sent = send(running.server("sqlcipher"), get("/livez", line))
        assert sent.statuses == [400]
        assert b"hidden" not in sent.answer


# What is sent, the status, and why granian does otherwise.
ANSWERED: dict[str, tuple[bytes, int, str]] = {
    "an absolute target": (get("http://localhost/livez"), 200, ""),
    "an absolute target over TLS": (get("https://localhost:443/livez"), 200, ""),
    "an absolute target in capitals": (get("HTTP://LOCALHOST/livez"), 200, ""),
    "empty lines before it": (b"\r\n\r\n" + get(), 200, ""),
    "an empty host": (hosted(""), 200, ""),
    "a host with a port": (hosted(" localhost:6010"), 200, ""),
    "a host in capitals": (hosted(" LOCALHOST"), 200, ""),
    "an address": (hosted(" [::1]:6010"), 200, ""),
    "a name of odd characters": (get("/livez", "X!#$%&'*+.^`|~: 1"), 200, ""),
    "a value in Latin-1": (get("/livez", "X: \xff"), 200, ""),
    "an unknown upgrade": (get("/livez", "Upgrade: tea", "Connection: upgrade"), 200, ""),
    "a query of any kind": (get("/livez?a=%zz&&=;"), 200, ""),
    "a slash at the end": (get("/livez/"), 404, ""),
    "a parameter of the path": (get("/livez;a=1"), 404, ""),
    "a NUL in a uid": (head("q", method="GET", path="/api/v1/jobs/%00"), 404, ""),
    "a path with dots": (get("/api/v1/../../livez"), 404, ""),
    "an escape that is none": (get("/livez%zz"), 404, ""),
    "a long query": (get("/livez?" + "a" * 20_000), 200, ""),
    "a page that is not there, for a browser": (get("/nix", "Accept: text/html"), 404, ""),
    "a body with GET": (get("/livez", "Content-Length: 3") + b"abc", 200, ""),
}


@pytest.mark.parametrize(("request_", "status", "known"), ANSWERED.values(), ids=ANSWERED)
def test_what_is_unusual_is_answered_and_keeps_the_connection(
    request: pytest.FixtureRequest, server: Server, request_: bytes, status: int, known: str
) -> None:
    skip_known(request, server, known)
    sent = send(server, request_)
    assert (sent.statuses, sent.ended) == ([status], False)


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        ((LENGTH, "Expect: 100-continue"), GOOD),
        ((LENGTH, "Content-Type: text/plain"), GOOD),
        ((CHUNKED,), b"%x;name=value\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD)),
        ((CHUNKED,), b"%x\r\n%b\r\n0\r\nX-Name: other\r\n\r\n" % (len(GOOD), GOOD)),
    ],
    ids=["expect", "type", "extension", "trailer"],
)
def test_a_body_is_read_however_it_is_framed(
    server: Server, queue: str, lines: tuple[str, ...], body: bytes
) -> None:
    sent = send(server, head(queue, *lines) + body)
    assert sent.statuses[-1] == 201
    assert not sent.ended
    assert len(server.api(queue).listed()) == 1


NO_CHUNKS = {
    "no number": b"zz\r\nabc\r\n0\r\n\r\n",
    "a space": b"%x z\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD),
    "bare LFs": b"%x\n%b\n0\n\n" % (len(GOOD), GOOD),
    "a bare LF before CRLF": b"%x\n\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD),
    "a bare LF after an extension": b"%x;a\n\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD),
    "a chunk that is longer": b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD) - 1, GOOD),
}


@pytest.mark.parametrize("body", NO_CHUNKS.values(), ids=NO_CHUNKS)
def test_chunks_that_are_none_are_refused_at_once(server: Server, queue: str, body: bytes) -> None:
    sent = send(server, head(queue, CHUNKED) + body)
    assert sent.statuses == [400]
    assert sent.ended
    assert server.api(queue).listed() == []


def test_the_body_of_a_claim_or_a_delete_is_not_the_next_request(
    server: Server, queue: str
) -> None:
    smuggled = head(queue, method="DELETE", path="/api/v1/jobs/x")
    for method, path in (("GET", "/api/v1/jobs/next"), ("DELETE", "/api/v1/jobs/x")):
        length = f"Content-Length: {len(smuggled)}"
        sent = send(server, head(queue, length, method=method, path=path) + smuggled)
        assert len(sent.statuses) == 1
        assert not sent.ended


def test_options_of_the_whole_server_is_a_ping(server: Server) -> None:
    """RFC 9110, section 9.3.7; without a name or a key."""
    sent = send(server, get("*", method="OPTIONS"))
    assert (sent.statuses, sent.ended) == ([204], False)
    assert b"\r\nallow: get, head, post, put, delete, options\r\n" in sent.answer.lower()


def test_the_answer_to_a_head_has_no_byte_after_its_head(server: Server, queue: str) -> None:
    api = server.api(queue)
    for _ in range(2):
        api.send("PUT", "/api/v1/jobs/create", b"[" + b",".join([GOOD] * 1000) + b"]")
    for path in ("/api/v1/jobs", "/api/v1/jobs?limit=1", "/api/v1/nowhere", "/livez"):
        lines = ("Connection: close",)
        with socket.create_connection(("127.0.0.1", server.port), timeout=_SECONDS) as connection:
            connection.sendall(head(queue, *lines, method="HEAD", path=path))
            answer = b""
            while data := connection.recv(65536):
                answer += data
        assert answer.partition(b"\r\n\r\n")[2] == b"", path


def test_an_absolute_target_says_which_host_is_meant(
    request: pytest.FixtureRequest, server: Server
) -> None:
    """RFC 9112, section 3.2.2. A form from a page of that host is no other site's."""
    skip_known(request, server, PASSED)
    for origin, status in (("http://127.0.0.1:80", 303), ("http://localhost", 403)):
        lines = (f"Origin: {origin}", "Content-Length: 0")
        sent = send(server, get("http://127.0.0.1:80/logout", *lines, method="POST"))
        assert sent.statuses == [status]


@pytest.mark.parametrize("step", [1, 7])
def test_a_head_may_come_in_pieces(server: Server, queue: str, step: int) -> None:
    request = b"\r\n" + head(queue, LENGTH, "Connection: close") + GOOD
    with socket.create_connection(("127.0.0.1", server.port), timeout=_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(request), step):
            connection.sendall(request[start : start + step])
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert len(server.api(queue).listed()) == 1
