"""beanstalkd -b DIR -f0: every write to its log is fsynced before it is answered.

Its client is as lean as that of `benchmarks.load`: one process, an epoll, and on each
connection one command in the air. A reserve isn't written to the log, so that a
completed job costs beanstalkd one fsync, that of its delete.
"""

import multiprocessing
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figure import Scale
from benchmarks.load import time_left
from benchmarks.peers.common import PAYLOAD, free_port, lacking, listens, scratch, server

SETTING = "beanstalkd -b DIR -f0 (fsync at every write)"

_FILL = 30_000  # jobs for each second of work: more than one client can complete
_CHUNK = 500
# Priority 50, no delay, 600 seconds to run: as the benchmark's JobEngine jobs.
_PUT = b"put 50 0 600 %d\r\n%s\r\n" % (len(PAYLOAD), PAYLOAD)
_RESERVE = b"reserve-with-timeout 0\r\n"

# Gives the next command from the answer to the last one (b"" at first); None to stop.
Script = Callable[[bytes], bytes | None]


def missing() -> str | None:
    """What is not installed, as a sentence."""
    return lacking({"beanstalkd": "beanstalkd"})


def enqueue_rate(scale: Scale, folder: Path) -> float:
    """Jobs put a second, one a call."""
    with scratch(folder) as log, _serving(log, "-f0") as port:
        return _load(port, "put", scale)


def work_rate(scale: Scale, folder: Path) -> float:
    """Jobs completed a second: a reserve, then a delete, until the time is up."""
    with scratch(folder) as log:
        # Filled without fsync, which isn't timed; the log is read back at the next start.
        with _serving(log, "-F") as port:
            _fill(port, int(scale.seconds * _FILL))
        with _serving(log, "-f0") as port:
            return _load(port, "work", scale)


@contextmanager
def _serving(log: Path, sync: str) -> Iterator[int]:
    port = free_port()
    command = ["beanstalkd", "-l", "127.0.0.1", "-p", str(port), "-b", str(log), sync]
    with server(command, log / "printed.txt", lambda: listens(port)):
        yield port


def _fill(port: int, jobs: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        answers = connection.makefile("rb")
        for first in range(0, jobs, _CHUNK):
            count = min(_CHUNK, jobs - first)
            connection.sendall(_PUT * count)
            for _ in range(count):
                _expect(answers.readline(), b"INSERTED")


def _load(port: int, script: str, scale: Scale) -> float:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_run, (port, script, scale.connections, scale.seconds))


def _expect(answer: bytes, word: bytes) -> None:
    if not answer.startswith(word):
        raise RuntimeError(f"beanstalkd answered {answer!r}, not {word!r}")


def _put(answer: bytes) -> bytes:
    if answer:
        _expect(answer, b"INSERTED")
    return _PUT


def _work(answer: bytes) -> bytes | None:
    if answer.startswith(b"RESERVED"):
        return b"delete %s\r\n" % answer.split(b" ", 2)[1]
    if answer.startswith(b"TIMED_OUT"):
        return None  # the tube is empty
    if answer:
        _expect(answer, b"DELETED")
    return _RESERVE


# What each connection says, and the answer that counts as a job.
_SCRIPTS: dict[str, tuple[Script, bytes]] = {
    "put": (_put, b"INSERTED"),
    "work": (_work, b"DELETED"),
}


class _Connection:
    """One connection, with a command in the air."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pending = b""

    def answer(self) -> bytes | None:
        """The whole answer, once it is there: two lines where a job is reserved."""
        received = self.socket.recv(1 << 16)
        if not received:
            raise ConnectionError("beanstalkd closed the connection")
        self._pending += received
        lines = 2 if self._pending.startswith(b"RESERVED") else 1
        if self._pending.count(b"\r\n") < lines:
            return None
        whole, self._pending = self._pending, b""
        return whole


def _run(port: int, name: str, connections: int, seconds: float) -> float:
    """Jobs a second by a script on each connection, in this process."""
    script, counts = _SCRIPTS[name]
    poll = select.epoll()
    open_ = {each.socket.fileno(): each for each in (_Connection(port) for _ in range(connections))}
    for connection in open_.values():
        poll.register(connection.socket, select.EPOLLIN)
    jobs, began = 0, time.perf_counter()
    all_done = False
    for connection in open_.values():
        connection.socket.sendall(script(b"") or b"")
    while not all_done and (left := time_left(began, seconds, jobs)) > 0:
        for fd, _ in poll.poll(left):
            connection = open_[fd]
            answer = connection.answer()
            if answer is None:
                continue
            jobs += answer.startswith(counts)
            command = script(answer)
            if command is None:
                all_done = True  # nothing is left: what was done until now counts
            else:
                connection.socket.sendall(command)
    elapsed = time.perf_counter() - began
    for connection in open_.values():
        connection.socket.close()
    return jobs / elapsed
