"""A queue as it is shown: its settings, and what is in it."""

from collections.abc import Mapping

import msgspec

from jobengine.domain.job import State
from jobengine.domain.queue import Queue


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


def report(
    queue: Queue, depth: Mapping[State, int], oldest_queued: int | None, now: int
) -> QueueReport:
    """The queue, with how many jobs it holds and when the oldest queued one was created."""
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
