"""Clients that are as slow as can be, many of them, in a process of their own."""

import multiprocessing
import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

from benchmarks.load import request

KINDS = ("heads", "bodies", "readers")
_BODY = 100_000
_BEGUN = {
    "heads": request("GET", "/api/v1/jobs")[:-2] + b"X-Slow: ",
    "bodies": request("PUT", "/api/v1/jobs/create", body=b" " * _BODY)[:-_BODY],
    "readers": request("GET", "/api/v1/jobs"),
}
# What the kernel keeps for a client that does not read is not in the server's hands.
_RECEIVE_BUFFER = 4096
_PERIOD_SECONDS = 1.0
_PATIENCE_SECONDS = 30
_SETTLE_SECONDS = 2.0


@contextmanager
def slow(port: int, kind: str, clients: int) -> Iterator[None]:
    """Keeps up that many clients of a kind; one that the server gave up begins again."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_keep_up, args=(theirs, port, kind, clients))
    process.start()
    theirs.close()
    ours.recv()
    try:
        yield
    finally:
        ours.send(None)
        process.join()
        time.sleep(_SETTLE_SECONDS)  # lets the server see that they have gone


def _keep_up(control: Connection, port: int, kind: str, clients: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    open_ = [_begin(port, kind) for _ in range(clients)]
    if kind == "readers":  # the start of a list is work, whatever its reader does then
        for client in open_:
            _ready(client, select.POLLIN, _PATIENCE_SECONDS)
        time.sleep(_SETTLE_SECONDS)
    control.send(None)
    while not control.poll(_PERIOD_SECONDS):
        for index, client in enumerate(open_):
            if not _step(client, kind):
                client.close()
                open_[index] = _begin(port, kind)
    for client in open_:
        client.close()


def _begin(port: int, kind: str) -> socket.socket:
    client = socket.socket()
    if kind == "readers":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    client.setblocking(False)
    with suppress(BlockingIOError):
        client.connect(("127.0.0.1", port))
    # Where the server takes no more connections, the request waits in the kernel.
    if _ready(client, select.POLLOUT, _PERIOD_SECONDS):
        with suppress(OSError):
            client.send(_BEGUN[kind])
    return client


def _ready(client: socket.socket, event: int, seconds: float) -> bool:
    poll = select.poll()  # select takes no more than 1024
    poll.register(client, event)
    return bool(poll.poll(seconds * 1000))


def _step(client: socket.socket, kind: str) -> bool:
    """Sends or takes one byte; whether the connection is there still."""
    try:
        if kind == "readers":
            return client.recv(1) != b""
        if _ready(client, select.POLLIN, 0):
            return False  # an answer, which a request that is not whole has only at its end
        client.send(b"x")
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def seconds_to_an_answer(port: int, sent: bytes, patience: float) -> float:
    """Seconds until a client that has just come has its answer; raises TimeoutError."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as client:
        client.sendall(sent)
        if not client.recv(65536):
            raise ConnectionError("the server closed the connection")
    return time.perf_counter() - began
