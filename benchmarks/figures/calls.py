"""One job a call: against an empty call, alone, and beside idle waiters."""

import os
import socket
import time
from pathlib import Path
from statistics import median

from benchmarks.figure import Figure, Result, Scale, in_turn
from benchmarks.load import CREATE, NEXT, TEST, WAIT, load, request
from benchmarks.service import Running, fill, serving

# More jobs a second than a claim figure can use up.
_CLAIMS = 15_000
_WAITERS = 200
_WAIT_FOR_ONE = request("GET", "/api/v1/jobs/next?wait=60")


def against_test(script: str, scale: Scale, folder: Path) -> Result:
    """Answers a second of a script ÷ those of the same server's GET /api/v1/test."""
    fill(folder, int(_CLAIMS * scale.seconds * scale.rounds) if script != "create" else 0)
    with serving(folder) as server:
        return in_turn(
            lambda: load(server.port, script, scale.connections, scale.seconds).rate,
            lambda: load(server.port, "test", scale.connections, scale.seconds).rate,
            scale,
            "calls/s",
        )


def _lone_create(scale: Scale, folder: Path) -> Result:
    """Median of a lone create ÷ (median of a GET test + median of an fsync)."""
    with serving(folder) as server:
        return in_turn(
            lambda: load(server.port, "create", 1, scale.seconds / 2).median_seconds * 1e6,
            lambda: (
                1e6
                * (load(server.port, "test", 1, scale.seconds / 2).median_seconds + _fsync(folder))
            ),
            scale,
            "µs",
        )


def _fsync(folder: Path) -> float:
    """Median seconds of an fdatasync after 8 KiB more, which is what a small commit appends."""
    path, times = folder / "fsync", []
    with path.open("wb", buffering=0) as file:
        for _ in range(300):
            file.write(b"x" * 8192)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    path.unlink()
    return median(times)


def _beside_waiters(scale: Scale, folder: Path) -> Result:
    """Creates a second with 200 calls waiting on another queue ÷ with none."""
    with serving(folder) as server:

        def beside() -> float:
            waiting = [_send(server, WAIT) for _ in range(_WAITERS)]
            rate = load(server.port, "create", scale.connections, scale.seconds).rate
            for connection in waiting:
                connection.close()
            time.sleep(0.1)  # lets the server see that they have gone
            return rate

        return in_turn(
            beside,
            lambda: load(server.port, "create", scale.connections, scale.seconds).rate,
            scale,
            "creates/s",
        )


def _send(server: Running, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(sent)
    return connection


def connected(server: Running) -> socket.socket:
    """A connection that is in use."""
    connection = _send(server, TEST)
    connection.recv(65536)
    return connection


def woken(taker: socket.socket, beside: socket.socket, maker: socket.socket) -> float:
    """Seconds from a create by the maker to the answer of the taker's waiting next.

    `beside` is another connection to the taker's server.
    """
    taker.sendall(_WAIT_FOR_ONE)
    beside.sendall(NEXT)  # comes after it through the writer
    beside.recv(65536)
    began = time.perf_counter()
    maker.sendall(CREATE)
    taker.recv(65536)
    elapsed = time.perf_counter() - began
    maker.recv(65536)
    return elapsed


def _wake(scale: Scale, folder: Path) -> Result:
    """Milliseconds from a create to the answer of a waiting next, beyond create + next."""
    repeats = max(3, int(scale.seconds * 50))
    with serving(folder) as server:
        maker, taker = connected(server), connected(server)

        def back_to_back() -> float:
            began = time.perf_counter()
            for sent in (CREATE, NEXT):
                maker.sendall(sent)
                maker.recv(65536)
            return time.perf_counter() - began

        pairs = [(woken(taker, maker, maker) * 1e3, back_to_back() * 1e3) for _ in range(repeats)]
    above, below = (median(side) for side in zip(*pairs, strict=True))
    return Result(above - below, above, below, "ms")


FIGURES = [
    *(
        Figure(
            name=f"{script}-waitress",
            title=f"{title}, {64} connections, waitress ÷ its GET /api/v1/test",
            bound=("at least", bound),
            run=lambda scale, folder, script=script: against_test(script, scale, folder),  # type: ignore[misc]  # a default that binds the loop's variable
        )
        for script, title, bound in (
            ("create", "create", 0.65),
            ("next", "next", 0.65),
            ("loop", "complete and claim", 0.6),
        )
    ),
    Figure(
        name="lone-create",
        title="one client's create ÷ (its GET /api/v1/test + an fsync), medians",
        bound=("at most", 2.0),
        run=_lone_create,
    ),
    Figure(
        name="waiters",
        title=f"create beside {_WAITERS} idle waiters ÷ with none",
        bound=("at least", 0.9),
        run=_beside_waiters,
    ),
    Figure(
        name="wake",
        title="ms from create to a waiting next's answer less create and next back to back",
        bound=("at most", 5.0),
        run=_wake,
    ),
]
