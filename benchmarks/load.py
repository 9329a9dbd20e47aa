"""Load: keep-alive connections in a process of its own, as lean as Python allows."""

import multiprocessing
import re
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

_LENGTH = re.compile(rb"[Cc]ontent-[Ll]ength: (\d+)")
_UID = re.compile(rb'"uid":"([0-9a-f-]{36})"')

# Gives the next request of a connection from the answer to its last one (b"" at first).
Script = Callable[[bytes], bytes]


@dataclass
class Load:
    """What came of a run."""

    answers: int
    seconds: float
    median_seconds: float  # from a request to its answer
    failures: int  # answers of another status than 200, 201 and 204

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


def request(method: str, path: str, queue: str = "q", body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: h\r\nX-Name: bench\r\nX-Queue: {queue}\r\n"
    if body:
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


TEST = request("GET", "/api/v1/test")
CREATE = request(
    "PUT",
    "/api/v1/jobs/create",
    body=b'{"content":{"job":"content"},"valid_for":600,"priority":50}',
)
NEXT = request("GET", "/api/v1/jobs/next")


def uid_in(answer: bytes) -> bytes | None:
    """The uid of the job in an answer."""
    found = _UID.search(answer)
    return found[1] if found else None


def load(port: int, script: str, connections: int, seconds: float) -> Load:
    """Runs a script of SCRIPTS on that many connections, in another process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(send, port, script, connections, seconds))
    process.start()
    result: Load = receive.recv()
    process.join()
    return result


def _always(sent: bytes) -> Script:
    return lambda _answer: sent


SCRIPTS: dict[str, Callable[[], Script]] = {
    "test": lambda: _always(TEST),
    "create": lambda: _always(CREATE),
    "next": lambda: _always(NEXT),
}


class _Connection:
    """One connection, with a request in the air."""

    def __init__(self, port: int, script: Script) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._script = script
        self._pending = b""
        self.sent_at = 0.0

    def send(self, answer: bytes = b"") -> None:
        self.sent_at = time.perf_counter()
        self.socket.sendall(self._script(answer))

    def answer(self) -> bytes | None:
        """The whole answer, once it is there."""
        received = self.socket.recv(1 << 20)
        if not received:
            raise ConnectionError("the server closed the connection")
        self._pending += received
        head = self._pending.find(b"\r\n\r\n")
        if head < 0:
            return None
        length = _LENGTH.search(self._pending, 0, head)
        if len(self._pending) < head + 4 + (int(length[1]) if length else 0):
            return None
        whole, self._pending = self._pending, b""
        return whole


def _work(send: object, port: int, script: str, connections: int, seconds: float) -> None:
    send.send(run(port, [SCRIPTS[script]() for _ in range(connections)], seconds))  # type: ignore[attr-defined]  # a Connection


def run(port: int, scripts: list[Script], seconds: float) -> Load:
    """Runs a script on each connection, in this process, until the time is up."""
    poll = select.epoll()
    open_: dict[int, _Connection] = {}
    for script in scripts:
        connection = _Connection(port, script)
        open_[connection.socket.fileno()] = connection
        poll.register(connection.socket, select.EPOLLIN)
    times: list[float] = []
    failures, began = 0, time.perf_counter()
    end = began + seconds
    for connection in open_.values():
        connection.send()
    while (now := time.perf_counter()) < end:
        for fd, _ in poll.poll(end - now):
            connection = open_[fd]
            answer = connection.answer()
            if answer is not None:
                times.append(time.perf_counter() - connection.sent_at)
                failures += answer[9:12] not in (b"200", b"201", b"204")
                connection.send(answer)
    elapsed = time.perf_counter() - began
    for connection in open_.values():
        connection.socket.close()
    return Load(len(times), elapsed, median(times) if times else 0.0, failures)
