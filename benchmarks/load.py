"""Load: keep-alive connections in a process of its own, as lean as Python allows."""

import multiprocessing
import re
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Connection
from statistics import median

_LENGTH = re.compile(rb"[Cc]ontent-[Ll]ength: (\d+)")
_UID = re.compile(rb'"uid":"([0-9a-f-]{36})"')

BULK = 500  # jobs a call
_PATIENCE_SECONDS = 60
PAYLOAD = b'{"content":{"job":"content"},"valid_for":600,"priority":50}'

# Gives the next request of a connection from the answer to its last one (b"" at first);
# None ends the connection's part.
Script = Callable[[bytes], bytes | None]


@dataclass
class Load:
    """What came of a run."""

    answers: int
    seconds: float
    median_seconds: float  # from a request to its answer

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


def request(method: str, path: str, queue: str = "q", body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Name: bench\r\nX-Queue: {queue}\r\n"
    if body:
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


TEST = request("GET", "/api/v1/test")
CREATE = request("PUT", "/api/v1/jobs/create", body=PAYLOAD)
NEXT = request("GET", "/api/v1/jobs/next")
BULK_CREATE = request("PUT", "/api/v1/jobs/create", body=b"[" + b",".join([PAYLOAD] * BULK) + b"]")
BULK_NEXT = request("GET", f"/api/v1/jobs/next?count={BULK}")
WAIT = request("GET", "/api/v1/jobs/next?wait=60", queue="idle")


COMPLETE_AND_CLAIM = request("POST", "/api/v1/jobs/%b?next=1", body=b'{"status":"complete"}')


def complete_and_claim(answer: bytes) -> bytes:
    """A worker's loop: completes the job of the last answer and claims the next."""
    found = _UID.search(answer)
    return NEXT if found is None else COMPLETE_AND_CLAIM % found[1]


class BulkComplete:
    """Claims a number of bulks first, which does not count, and then completes them."""

    def __init__(self, bulks: int) -> None:
        self.unclaimed = bulks
        self._requests: list[bytes] = []

    def prepare(self, answer: bytes) -> bytes | None:
        """The next claim; None once there are enough."""
        uids = _UID.findall(answer)
        if uids:
            updates = b",".join(b'{"uid":"%s","status":"complete"}' % uid for uid in uids)
            self._requests.append(request("POST", "/api/v1/jobs", body=b"[" + updates + b"]"))
        self.unclaimed -= 1
        return BULK_NEXT if self.unclaimed >= 0 else None

    def __call__(self, _answer: bytes) -> bytes | None:
        """The next completion; None when all are done."""
        return self._requests.pop() if self._requests else None


def load(ports: int | Sequence[int], script: str, connections: int, seconds: float) -> Load:
    """Runs a script of SCRIPTS on that many connections, in another process.

    Where there are several ports, the connections go to each in turn.
    """
    ports = (ports,) if isinstance(ports, int) else tuple(ports)
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(send, ports, script, connections, seconds))
    process.start()
    result: Load | Exception = receive.recv()
    process.join()
    if isinstance(result, Exception):
        raise result
    return result


def _always(sent: bytes) -> Script:
    return lambda _answer: sent


SCRIPTS: dict[str, Callable[[], Script]] = {
    "test": lambda: _always(TEST),
    "create": lambda: _always(CREATE),
    "next": lambda: _always(NEXT),
    "loop": lambda: complete_and_claim,
    "bulk-create": lambda: _always(BULK_CREATE),
    "bulk-next": lambda: _always(BULK_NEXT),
    "bulk-complete": lambda: BulkComplete(20),
    "bulk-complete-tiny": lambda: BulkComplete(1),
}


class _Connection:
    """One connection, with a request in the air."""

    def __init__(self, port: int, script: Script) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._script = script
        self._pending = b""
        self.sent_at = 0.0

    def prepare(self) -> None:
        """Lets the script make ready, one call after the other."""
        prepare = getattr(self._script, "prepare", None)
        answer = b""
        while prepare is not None and (sent := prepare(answer)) is not None:
            self.socket.sendall(sent)
            while (answer := self.answer() or b"") == b"":
                pass

    def send(self, answer: bytes = b"") -> bool:
        """Sends the next request; whether there was one."""
        sent = self._script(answer)
        if sent is None:
            return False
        self.sent_at = time.perf_counter()
        self.socket.sendall(sent)
        return True

    def answer(self) -> bytes | None:
        """The whole answer, once it is there."""
        received = self.socket.recv(1 << 16)
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


def time_left(began: float, seconds: float, answers: int) -> float:
    """Seconds that a measurement has left.

    It ends when its time is up, but not before the first answer, so that a machine which
    stalls for a moment gives a low rate and not none. Raises TimeoutError where nothing
    answers for a minute more.
    """
    left = began + seconds - time.perf_counter()
    if answers:
        return left
    if left + _PATIENCE_SECONDS < 0:
        raise TimeoutError(f"no answer within {seconds + _PATIENCE_SECONDS:g} seconds")
    return left + _PATIENCE_SECONDS


def _work(
    send: Connection, ports: Sequence[int], script: str, connections: int, seconds: float
) -> None:
    try:
        result: Load | Exception = run(
            ports, [SCRIPTS[script]() for _ in range(connections)], seconds
        )
    except Exception as error:  # noqa: BLE001  raised in the process that asked
        result = error
    send.send(result)


def run(ports: Sequence[int], scripts: list[Script], seconds: float) -> Load:
    """Runs a script on each connection, in this process, until the time is up (`time_left`)."""
    poll = select.epoll()
    open_: dict[int, _Connection] = {}
    for script, port in zip(scripts, cycle(ports), strict=False):
        connection = _Connection(port, script)
        open_[connection.socket.fileno()] = connection
        poll.register(connection.socket, select.EPOLLIN)
    times: list[float] = []
    for connection in open_.values():
        connection.prepare()
    failures, began = 0, time.perf_counter()
    active = sum(connection.send() for connection in open_.values())
    while active and (left := time_left(began, seconds, len(times))) > 0:
        for fd, _ in poll.poll(left):
            connection = open_[fd]
            answer = connection.answer()
            if answer is not None:
                times.append(time.perf_counter() - connection.sent_at)
                failures += answer[9:12] not in (b"200", b"201", b"204")
                active -= not connection.send(answer)
    elapsed = time.perf_counter() - began
    for connection in open_.values():
        connection.socket.close()
    if failures:
        raise RuntimeError(f"{failures} calls of {len(times)} were refused")
    return Load(len(times), elapsed, median(times) if times else 0.0)
