"""A fuzzer over all routes: no 500, and every error is the problem that its status says.

`JOBENGINE_FUZZ_SECONDS=600 pytest -n 0 -s tests/test_fuzz.py` takes ten minutes over it.
"""

import contextlib
import io
import json
import os
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from jobengine.wsgi import Service
from tests.conftest import KINDS, Running, next_queue
from tests.harness.client import Api, WsgiTransport
from tests.harness.fuzz import METHODS, Known, Request, requests, routes_of, wires

# What fails may be large, and is to be seen all the same.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

SECONDS = float(os.environ.get("JOBENGINE_FUZZ_SECONDS", 12))
_BATCH = 100
_BATCHES_MIN = 30
_PATIENCE_SECONDS = 20

fuzzing = settings(
    max_examples=_BATCH,
    deadline=None,
    database=None,
    derandomize=False,  # hypothesis makes it so where CI is set, and each batch the same
    phases=[Phase.generate],  # a server's state does not shrink
    suppress_health_check=list(HealthCheck),
)


def for_a_share_of_the_time(share: int, batch: Callable[[], None], watched: "Watched") -> None:
    """Runs the batch again and again, one of that many for its share of the time.

    Longer where it takes that for calls to come through: a machine may be slow.
    """
    end = time.monotonic() + SECONDS / share
    for _ in range(_BATCHES_MIN):
        batch()
        if watched.came_through():
            break
    while time.monotonic() < end:
        batch()


def judge(method: str, status: int, headers: dict[str, str], body: bytes) -> None:
    """Fails where an answer is none that the documentation has."""
    assert status < 500 or status in (501, 503), (status, body)
    assert headers.get("cache-control") == "no-store"
    assert headers.get("x-content-type-options") == "nosniff"
    assert not headers.get("server")
    if method == "HEAD" or status == 204:
        assert body == b""
    elif status >= 400:
        assert headers["content-type"] == "application/problem+json"
        problem = json.loads(body)
        assert problem["status"] == status
        assert problem["title"]
        assert status != 503 or int(headers["retry-after"]) > 0
        assert b"Traceback" not in body
    elif headers.get("content-type", "").startswith("text/plain"):
        assert body.startswith(b"# HELP jobengine_")
    elif body and headers["content-type"] == "application/json":
        json.loads(body)


class Watched:
    """A queue to fuzz, and a job in another that no request may touch."""

    def __init__(self, transport: Any) -> None:
        self.api = Api(transport, next_queue())
        self.untouched = Api(transport, next_queue())
        self.job = self.untouched.made(content={"known": True})
        self.answers: Counter[int] = Counter()

    def known(self, service: Service) -> Known:
        mine = [self.api.made()["uid"] for _ in range(3)]
        return Known(routes_of(service.app), self.api.queue, [*mine, self.job["uid"]])

    def check(self, name: str) -> None:
        """The server lives, the job is as it was, and the calls came through."""
        counts = dict(sorted(self.answers.items()))
        sys.stdout.write(f"\n{name}: {self.answers.total():,} answers, {counts}\n")
        assert self.untouched.listed() == [self.job]
        assert self.api.create().status == 201
        assert self.came_through()

    def came_through(self) -> bool:
        """Whether there were answers of all the usual kinds."""
        return {200, 201, 400, 403, 404} <= set(self.answers)


@pytest.mark.parametrize("kind", KINDS)
def test_the_application_answers_every_request(running: Running, kind: str) -> None:
    service = running.service(kind)
    watched = Watched(WsgiTransport(service.app))
    known = watched.known(service)

    @fuzzing
    @given(requests(known))
    def batch(request: Request) -> None:
        status, headers, body = call(service.app, request)
        watched.answers[status] += 1
        judge(request.method.decode(), status, headers, body)

    for_a_share_of_the_time(4, batch, watched)
    watched.check(f"application on {kind}")


def call(app: Any, request: Request) -> tuple[int, dict[str, str], bytes]:
    """Calls the application as a WSGI server does, whatever the request."""
    path, _, query = request.target.partition(b"?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method.decode(),
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "SERVER_NAME": "h",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers:
        key = name.decode().upper().replace("-", "_")
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value.strip().decode("latin-1")
    head: list[Any] = []
    chunks = app(environ, lambda status, headers, _error=None: head.extend((status, headers)))
    try:
        body = b"".join(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    headers = {name.lower(): value for name, value in head[1]}
    return int(head[0][:3]), headers, body


@pytest.mark.parametrize("http", ["waitress", "granian"])
def test_a_server_answers_every_request_and_outlives_every_noise(
    running: Running, http: str
) -> None:
    server, service = running.server("sqlcipher", http), running.service("sqlcipher")
    watched = Watched(server.api().transport)
    known = watched.known(service)
    own_answers = http == "granian"

    @fuzzing
    @given(wires(known))
    def batch(wire: tuple[bytes, bool]) -> None:
        data, framed = wire
        answer = converse(server.port, data, framed)
        if answer is None:
            watched.answers[0] += 1
            return
        status, headers, body = answer
        watched.answers[status] += 1
        if own_answers and not body and status in (400, 414, 431):
            return  # from granian's HTTP, which has no body and none of our headers
        method = data.partition(b" ")[0].decode("latin-1")
        judge(method if method in METHODS else "", status, headers, body)

    for_a_share_of_the_time(4, batch, watched)
    watched.check(http)
    assert server.process.poll() is None
    assert "unexpected error" not in [event.get("event") for event in server.log]


def converse(port: int, data: bytes, framed: bool) -> tuple[int, dict[str, str], bytes] | None:
    """Sends the bytes; the first answer, if there is any."""
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_SECONDS) as connection:
        with contextlib.suppress(OSError):  # it may have been refused and closed already
            connection.sendall(data)
            if not framed:
                # granian takes an end for a client that has gone: it has a moment before.
                select.select([connection], [], [], 0.02)
                connection.shutdown(socket.SHUT_WR)
        answer = HTTPResponse(connection, method="HEAD" if data.startswith(b"HEAD ") else None)
        try:
            answer.begin()
            body = answer.read()
        except ConnectionError:
            # A bad head ends the connection; what is unread of a large body resets it.
            assert not framed or len(data) > 8192
            return None
        except HTTPException:
            assert not framed
            return None
        finally:
            answer.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, body
