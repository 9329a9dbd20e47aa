"""What happened in queues, and what is in them: for plots, and for a monitoring system."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec

from jobengine.domain.clock import Clock
from jobengine.domain.durations import BOUNDS, Cumulative, quantile
from jobengine.domain.errors import InvalidInput, Mistake
from jobengine.domain.job import State
from jobengine.engine.queues import Queues
from jobengine.store.reads import Reads
from jobengine.store.tables import depths, statistics
from jobengine.store.tables.models import COUNTS, DEPTHS
from jobengine.store.tables.tally import buckets
from jobengine.store.writing.writer import Writer

POINTS_MAX = 10_000
# Of the columns, the key comes first.
_KEY = 3
_FLOWS = ("created", "claimed", "completed", "failed", "expired")


class Depth(msgspec.Struct, frozen=True):
    """How many jobs a queue holds, by the state that they lie in."""

    queued: int = 0
    inprogress: int = 0
    complete: int = 0
    failed: int = 0


class Point(msgspec.Struct, frozen=True):
    """A step of a series, which begins at `time`, in seconds since the Unix epoch.

    Counts are of jobs; `deleted` are those that did not expire. `depth` is that at the end
    of the step. The times that 50 % and 95 % of the jobs waited and ran at most are in seconds,
    estimated within a bucket; None where no job was claimed, or came to its end.
    """

    time: int
    created: int
    claimed: int
    completed: int
    failed: int
    expired: int
    deleted: int
    depth: Depth
    wait_p50: float | None
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None


class Flow(msgspec.Struct, frozen=True):
    """What came to a queue, and what became of it, in the minute that begins at `time`."""

    time: int
    created: int = 0
    claimed: int = 0
    completed: int = 0
    failed: int = 0
    expired: int = 0


class Held(NamedTuple):
    """What a queue holds, and how many seconds ago its oldest queued job was created; 0 without."""

    depth: Mapping[State, int]
    oldest_queued_age: int


class Done(NamedTuple):
    """What this process has done since its start; only ever more.

    `wait` and `run` are in seconds.
    """

    created: int
    claimed: int
    completed: int
    failed: int
    expired: int
    wait: Cumulative
    run: Cumulative


class Load(NamedTuple):
    """How busy the writer of this process has been since its start, and who waits now.

    `batches` are in operations, those of statistics alone with none; `commits` in seconds.
    """

    batches: Cumulative
    commits: Cumulative
    waiting: int


class Metrics:
    """Statistics of queues. Nothing here waits for the writer, and it for nothing here.

    Every method that reads the database raises Unavailable.
    """

    def __init__(self, reads: Reads, writer: Writer, queues: Queues, clock: Clock) -> None:
        self._reads = reads
        self._writer = writer
        self._queues = queues
        self._clock = clock

    def series(self, queue: str, start: int, end: int, step: int) -> Sequence[Point]:
        """A point for each step of a queue, the oldest first, from `start` on and before `end`.

        Times in seconds since the Unix epoch; `step` in seconds, a multiple of 60. Steps
        begin at its multiples, the first at or before `start`. There are minutes of the last
        two days, and hours of the last 30: an hour counts as its first minute. Raises
        UnknownQueue, and InvalidInput for a step that is none or more than POINTS_MAX points.
        """
        queue_id = self._queues.get(queue).id
        if step < statistics.MINUTE or step % statistics.MINUTE:
            raise InvalidInput([Mistake("parameter", "step", "expected a multiple of 60 seconds")])
        start -= start % step
        times = range(start, end, step)
        if len(times) > POINTS_MAX:
            detail = f"expected seconds that make at most {POINTS_MAX} points"
            raise InvalidInput([Mistake("parameter", "step", detail)])
        with self._reads.connection() as connection:
            rows = statistics.between(connection, queue_id, start, end)
            depth = statistics.depth_before(connection, queue_id, start) or _NONE
            if depth is _NONE and not rows:  # for longer than statistics are kept: as it is now
                depth = depths.by_number(connection, queue_id)
        by_step: dict[int, list[statistics.Row]] = {}
        for row in rows:
            by_step.setdefault(row[_KEY - 1] // step * step, []).append(row)
        points = []
        for time in times:
            here = by_step.get(time, [])
            depth = here[-1][_KEY + len(COUNTS) :] if here else depth
            points.append(_point(time, here, depth))
        return points

    def flows(self, minutes: int) -> Mapping[str, Sequence[Flow]]:
        """The last minutes of every queue by its name, the oldest first, the present one last."""
        now = self._clock.now()
        last = now - now % statistics.MINUTE
        times = [last - statistics.MINUTE * back for back in reversed(range(minutes))]
        if not times:
            return {name: [] for name in self._queues.names().values()}
        with self._reads.connection() as connection:
            rows = statistics.minutes_since(connection, times[0], _FLOWS)
        found: dict[int, dict[int, Flow]] = {}
        for queue_id, time, *counts in rows:
            found.setdefault(queue_id, {})[time] = Flow(time, *counts)
        nothing = [Flow(time) for time in times]
        return {
            name: [found[id_].get(flow.time, flow) for flow in nothing] if id_ in found else nothing
            for id_, name in self._queues.names().items()
        }

    def held(self) -> Mapping[str, Held]:
        """What each queue holds, by its name."""
        names, now = self._queues.names(), self._clock.now()
        depths = self._reads.depths([])
        waiting = [id_ for id_ in names if depths.get(id_, {}).get(State.QUEUED)]
        oldest = self._reads.oldest_queued(waiting)
        empty = dict.fromkeys(State, 0)
        return {
            name: Held(depths.get(id_, empty), max(0, now - oldest.get(id_, now)))
            for id_, name in names.items()
        }

    def done(self) -> Mapping[str, Done]:
        """What this process has done with the jobs of each queue since its start."""
        names, totals = self._queues.names(), dict(self._writer.totals.by_queue)
        return {name: _done(list(totals.get(id_, _NOTHING))) for id_, name in names.items()}

    def load(self) -> Load:
        """How busy the writer is."""
        load = self._writer.load
        return Load(load.batches.cumulative(), load.commits.cumulative(), self._writer.waiting)


_NONE = (0,) * len(DEPTHS)
_NOTHING = (0,) * len(COUNTS) + _NONE


def _done(counts: Sequence[int]) -> Done:
    created, claimed, completed, failed, expired, *_ = counts
    return Done(
        created,
        claimed,
        completed,
        failed,
        expired,
        wait=_durations(counts, "wait"),
        run=_durations(counts, "run"),
    )


def _durations(counts: Sequence[int], of: str) -> Cumulative:
    total = counts[COUNTS.index(f"{of}_seconds")]
    return Cumulative(BOUNDS, accumulate(buckets(counts, of)), total)


def _point(time: int, rows: Sequence[statistics.Row], depth: statistics.Row) -> Point:
    counts = [sum(column) for column in zip(*(row[_KEY:] for row in rows), strict=True)]
    created, claimed, completed, failed, expired, deleted, *_ = counts or _NOTHING
    waits, runs = (buckets(counts or _NOTHING, each) for each in ("wait", "run"))
    return Point(
        time,
        created,
        claimed,
        completed,
        failed,
        expired,
        deleted,
        Depth(*depth),
        quantile(waits, 0.5),
        quantile(waits, 0.95),
        quantile(runs, 0.5),
        quantile(runs, 0.95),
    )
