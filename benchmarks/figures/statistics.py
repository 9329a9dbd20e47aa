"""What statistics cost the write path: creates through the writer, with and without them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uuid_utils
from sqlalchemy import Connection

from benchmarks.figure import Figure, Result, Scale, in_turn
from benchmarks.service import ANYONE, SECRET
from jobengine.domain.clock import SystemClock
from jobengine.domain.queue import Queue
from jobengine.store.migrate import upgrade
from jobengine.store.sqlcipher.database import SqlcipherFile
from jobengine.store.tables.queues import Times, WantedQueue, reconcile
from jobengine.store.tables.tally import Tally
from jobengine.store.writing.operations import Create, NewJob
from jobengine.store.writing.unwritten import Unwritten
from jobengine.store.writing.writer import Writer

# A pair takes this share of the time that others take, and there are as many more pairs.
_PARTS = 5


class _Nothing(Unwritten):
    """Statistics that nobody keeps."""

    def join(
        self, connection: Connection, tally: Tally, now: int, elapsed: float, *, again: bool
    ) -> None:
        """Takes nothing."""


class _Bench:
    """A writer on a database of its own, in this process."""

    def __init__(self, folder: Path, statistics: Unwritten) -> None:
        folder.mkdir(parents=True)
        self.file = SqlcipherFile(folder / "jobs.queuedb", SECRET.encode())
        upgrade(self.file)
        wanted = [WantedQueue("q", ANYONE, ANYONE, 600, 3600)]
        with self.file.writer.begin() as connection:
            self._queue: Queue = reconcile(connection, wanted, Times(600, 3600), 0).queues[0]
        self.writer = Writer(self.file, SystemClock(), statistics)

    def rate(self, callers: int, seconds: float) -> float:
        """Creates a second by that many threads, one job each time."""
        end, counts = time.perf_counter() + seconds, [0] * callers

        def work(caller: int) -> None:
            while not counts[caller] or time.perf_counter() < end:
                self.writer.submit(Create(self._queue, [_job()]))
                counts[caller] += 1

        threads = [threading.Thread(target=work, args=(caller,)) for caller in range(callers)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.perf_counter() - began)


def _job() -> NewJob:
    now = int(time.time())
    return NewJob(uuid_utils.uuid7().bytes, 50, now, now + 600, 600, b'{"job":"content"}')


@contextmanager
def _running(folder: Path, statistics: Unwritten) -> Iterator[_Bench]:
    bench = _Bench(folder, statistics)
    bench.writer.start()
    yield bench
    bench.writer.stop()
    bench.file.close()


def _cost(scale: Scale, folder: Path) -> Result:
    parts = Scale(
        scale.name, scale.seconds / _PARTS * 2, scale.rounds * _PARTS, 0, scale.connections
    )
    with (
        _running(folder / "with", Unwritten()) as counted,
        _running(folder / "without", _Nothing()) as uncounted,
    ):
        return in_turn(
            lambda: counted.rate(parts.connections, parts.seconds),
            lambda: uncounted.rate(parts.connections, parts.seconds),
            parts,
            "creates/s",
        )


FIGURES = [
    Figure(
        name="statistics",
        title="create through the writer, 64 threads, with statistics ÷ without",
        bound=("at least", 0.97),
        run=_cost,
    )
]
