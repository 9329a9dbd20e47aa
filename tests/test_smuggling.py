"""Requests that a proxy and the server could read as two different ones are refused."""

import re
import socket

import pytest

from tests.conftest import Running
from tests.harness.client import Api
from tests.harness.server import Server
from tests.test_http import GOOD

HOST = "Host: localhost"
NAMES = ("X-Name: both", "X-Queue: {queue}")
LENGTH = f"Content-Length: {len(GOOD)}"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD)
_SECONDS = 20


@pytest.fixture(scope="module", params=["waitress", "granian"])
def server(request: pytest.FixtureRequest, running: Running) -> Server:
    """One of each HTTP server: what it makes of bytes has nothing to do with the database."""
    return running.server("sqlcipher", request.param)


def answer_to(server: Server, request: bytes) -> bytes:
    """All that comes back until the server ends the connection, or a whole 2xx answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=_SECONDS) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(65536):
            answer += data
            if re.match(rb"HTTP/1.1 20[0-9] ", answer) and answer.endswith((b"}", b"\r\n\r\n")):
                break
        return answer


def put(queue: str, *lines: str, version: str = "1.1", body: bytes = GOOD) -> bytes:
    names = (line.format(queue=queue) for line in NAMES)
    head = (f"PUT /api/v1/jobs/create HTTP/{version}", *names, *lines, "", "")
    return "\r\n".join(head).encode("latin-1") + body


BEARER = "Authorization: Bearer"
REFUSED = {
    "two lengths": (HOST, LENGTH, "Content-Length: 5"),
    "a list of lengths": (HOST, f"{LENGTH}, {len(GOOD)}"),
    "two hosts": (HOST, "Host: g", LENGTH),
    "the same host twice": (HOST, HOST, LENGTH),
    "no host": (LENGTH,),
    "two authorizations": (HOST, f"{BEARER} a", f"{BEARER} b", LENGTH),
    "an empty second authorization": (HOST, f"{BEARER} a", "authorization:", LENGTH),
    "a coding beside chunked": (HOST, "Transfer-Encoding: gzip, chunked"),
    "chunked twice": (
        HOST,
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked",
    ),
    "chunked twice in a list": (HOST, "Transfer-Encoding: chunked, chunked"),
    "another coding": (HOST, "Transfer-Encoding: xchunked", LENGTH),
    "no coding": (HOST, "Transfer-Encoding:", LENGTH),
    "a space before the colon": (HOST, "Content-Length : 5"),
}


@pytest.mark.parametrize("lines", REFUSED.values(), ids=REFUSED)
def test_what_could_be_read_in_two_ways_is_refused_and_ends_the_connection(
    server: Server, queue: str, lines: tuple[str, ...]
) -> None:
    body = CHUNKED if any("chunked" in line for line in lines) else GOOD
    answer = answer_to(server, put(queue, *lines, body=body))
    assert re.match(rb"HTTP/1.[01] (400|501) ", answer), answer
    assert len(re.findall(rb"HTTP/1\.[01] \d", answer)) == 1, "nothing after it was read"
    assert server.api(queue).listed() == []


@pytest.mark.parametrize("header", ["X-Name: other", "X-Queue: other", "X-Name:"])
def test_a_second_name_is_refused(server: Server, queue: str, header: str) -> None:
    answer = answer_to(server, put(queue, HOST, "Connection: close", header, LENGTH))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert server.api(queue).listed() == []


@pytest.mark.parametrize("coding", [b"Transfer-Encoding: chunked", b"TRANSFER-encoding: CHUNKED"])
@pytest.mark.parametrize("first", [True, False])
def test_a_length_beside_chunked_is_refused(
    running: Running, queue: str, coding: bytes, first: bool
) -> None:
    server = running.server("sqlcipher")
    lines = [coding.decode(), LENGTH]
    request = put(queue, HOST, *(lines if first else lines[::-1]), body=CHUNKED)
    answer = answer_to(server, request * 2)
    assert len(re.findall(rb"HTTP/1.1 400 ", answer)) == 1
    assert server.api(queue).listed() == []


@pytest.mark.parametrize("first", [True, False])
def test_granian_reads_chunked_beside_a_length_as_chunked(
    running: Running, queue: str, first: bool
) -> None:
    """Its HTTP never tells of the length: RFC 9112, section 6.3, allows for that."""
    server = running.server("sqlcipher", "granian")
    lines = ["Transfer-Encoding: chunked", "Content-Length: 3"]
    request = put(queue, HOST, *(lines if first else lines[::-1]), body=CHUNKED)
    assert answer_to(server, request).startswith(b"HTTP/1.1 201 ")
    assert len(server.api(queue).listed()) == 1


def test_chunks_in_http_1_0_are_refused(server: Server, queue: str) -> None:
    request = put(queue, "Transfer-Encoding: chunked", LENGTH, version="1.0")
    assert re.match(rb"HTTP/1.[01] 400 ", answer_to(server, request))
    assert server.api(queue).listed() == []


def test_a_name_with_an_underscore_is_no_name_of_a_service(server: Server, queue: str) -> None:
    """A proxy that sets X-Name may pass X_Name on, which WSGI would take for the same."""
    request = put(queue, HOST, "X_Name: other", "Content_Length: 3", LENGTH)
    assert answer_to(server, request).startswith(b"HTTP/1.1 201 ")
    unnamed = request.replace(b"X-Name: both\r\n", b"Connection: close\r\n")
    assert answer_to(server, unnamed).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_ends_early_is_no_fault_of_the_server(server: Server, queue: str) -> None:
    request = put(queue, HOST, f"Content-Length: {len(GOOD) + 1}")
    with socket.create_connection(("127.0.0.1", server.port), timeout=_SECONDS) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert server.api(queue).listed() == []


def test_one_authorization_is_no_mistake_and_may_have_commas(server: Server, queue: str) -> None:
    request = put(queue, HOST, 'Authorization: Digest a="b", c="d"', LENGTH)
    assert answer_to(server, request).startswith(b"HTTP/1.1 201 ")


def test_http_1_0_needs_no_host(server: Server, queue: str) -> None:
    answer = answer_to(server, put(queue, LENGTH, version="1.0"))
    assert re.match(rb"HTTP/1.[01] 201 ", answer)


@pytest.mark.parametrize(
    ("size", "status"), [(30_000, b"201"), (70_000, b"(201|431)"), (500_000, b"431")]
)
def test_a_head_that_is_too_long_is_431(
    server: Server, queue: str, size: int, status: bytes
) -> None:
    request = put(queue, HOST, "Connection: close", f"X-Long: {'x' * size}", LENGTH)
    with socket.create_connection(("127.0.0.1", server.port), timeout=_SECONDS) as connection:
        try:
            connection.sendall(request)
        except ConnectionError:
            assert size > 30_000  # it has heard enough
            return
        assert re.match(rb"HTTP/1.[01] " + status, connection.recv(65536))


def test_every_answer_forbids_caching_and_sniffing_and_names_no_server(
    server: Server, queue: str
) -> None:
    api: Api = server.api(queue)
    requests = [
        put(queue, HOST, "Connection: close", LENGTH),
        put(queue, HOST, "Connection: close", "X-Name: other", LENGTH),
        put(queue, HOST, HOST, LENGTH),
        put(queue, HOST, "Connection: close", LENGTH).replace(b"create", b"nowhere"),
    ]
    for answer in (answer_to(server, request).lower() for request in requests):
        head = answer.partition(b"\r\n\r\n")[0] + b"\r\n"
        assert b"\r\ncache-control: no-store\r\n" in head
        assert b"\r\nx-content-type-options: nosniff\r\n" in head
        # granian writes one by itself where there is none: it is left empty.
        assert re.search(rb"\r\nserver: ?[^\r ]", head) is None
        assert b"waitress" not in answer
        assert b"granian" not in answer
    assert len(api.listed()) == 1
