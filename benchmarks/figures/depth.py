"""A million jobs: whether they slow a claim, a start, or take memory."""

import socket
import time
from pathlib import Path

from benchmarks.figure import Figure, Result, Scale, in_turn
from benchmarks.load import NEXT, load, request
from benchmarks.service import Running, fill, serving

_SHALLOW = 1_000
_READ = 64 * 1024
# A client that takes this long for each 64 KiB is slower than the server at all times.
_READ_SECONDS = 0.0005


def _claim_time(scale: Scale, folder: Path) -> Result:
    """The median time of a claim by a lone client, over a deep and over a shallow queue."""
    deep = fill(folder / "deep", scale.jobs, mixed=True)
    shallow = fill(folder / "shallow", _SHALLOW, mixed=True)
    with serving(deep) as over_deep, serving(shallow) as over_shallow:
        # Few enough claims that the shallow queue does not run dry.
        seconds = min(scale.seconds, 0.2)
        return in_turn(
            lambda: load(over_deep.port, "next", 1, seconds).median_seconds * 1e6,
            lambda: load(over_shallow.port, "next", 1, seconds).median_seconds * 1e6,
            scale,
            "µs",
        )


def _start_time(scale: Scale, folder: Path) -> Result:
    """Seconds from the start of the process to the answer of its first claim."""
    deep, none = fill(folder / "deep", scale.jobs, mixed=True), fill(folder / "none", 0)
    return in_turn(lambda: _first_claim(deep) * 1e3, lambda: _first_claim(none) * 1e3, scale, "ms")


def _first_claim(folder: Path) -> float:
    began = time.perf_counter()
    with serving(folder) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(NEXT)
            connection.recv(_READ)
        return time.perf_counter() - began


def _memory(scale: Scale, folder: Path) -> Result:
    """Peak resident MB of the server after a slow client has listed all jobs."""
    with serving(fill(folder / "deep", scale.jobs, mixed=True)) as server:
        before = _peak(server)
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(request("GET", "/api/v1/jobs"))
            connection.shutdown(socket.SHUT_WR)  # or a short list would leave it open
            size = 0
            while data := connection.recv(_READ):
                size += len(data)
                time.sleep(_READ_SECONDS)
        after = _peak(server)
    notes = [f"{size / 1e6:,.0f} MB of answer"]
    return Result(after, after, before, "MB", notes)


def _peak(server: Running) -> float:
    status = Path(f"/proc/{server.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1e3


FIGURES = [
    Figure(
        name="claim-depth",
        title="claim among all the queued jobs ÷ among 1,000",
        bound=("at most", 1.2),
        run=_claim_time,
    ),
    Figure(
        name="start",
        title="start to the first claim answered, with all jobs stored ÷ with none",
        bound=("at most", 1.5),
        run=_start_time,
    ),
    Figure(
        name="memory",
        title="peak MB after listing all jobs to a slow client",
        bound=("at most", 150),
        run=_memory,
    ),
]
