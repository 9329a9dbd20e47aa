"""A queue as it is shown: its settings, and what is in it."""

from collections.abc import Mapping, Sequence

import msgspec

from jobengine.domain.clock import Clock
from jobengine.domain.job import State
from jobengine.domain.queue import Queue
from jobengine.store.reads import Reads


class QueueReport(msgspec.Struct, frozen=True):
    """A queue as it is shown. `jobs` are counts by state.

    `oldest_queued_age` is how many seconds ago the oldest queued job was created.
    """

    name: str
    read: list[str]
    write: list[str]
    job_keep_minutes: int
    job_timeout_minutes: int
    max_jobs: int | None
    paused: bool
    origin: str
    jobs: dict[str, int]
    oldest_queued_age: int | None


class QueueReports:
    """Reports on queues, by counts that are kept, so that none takes a look at the jobs."""

    def __init__(self, reads: Reads, clock: Clock) -> None:
        self._reads = reads
        self._clock = clock

    def of(self, queues: Sequence[Queue]) -> list[QueueReport]:
        """The queues as they are shown. Raises StoreFailed."""
        now = self._clock.now()
        held = self._reads.depths([queue.id for queue in queues])
        waiting = [q.id for q in queues if held.get(q.id, {}).get(State.QUEUED)]
        oldest = self._reads.oldest_queued(waiting)
        return [_report(q, held.get(q.id, {}), oldest.get(q.id), now) for q in queues]


def _report(
    queue: Queue, depth: Mapping[State, int], oldest_queued: int | None, now: int
) -> QueueReport:
    return QueueReport(
        name=queue.name,
        read=sorted(queue.readers),
        write=sorted(queue.writers),
        job_keep_minutes=queue.keep // 60,
        job_timeout_minutes=queue.window // 60,
        max_jobs=queue.max_jobs,
        paused=queue.paused,
        origin="config" if queue.from_config else "http",
        jobs={state.value: depth.get(state, 0) for state in State},
        oldest_queued_age=None if oldest_queued is None else max(0, now - oldest_queued),
    )
