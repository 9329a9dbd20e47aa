"""A job and its life: what time does to it, and what an update does.

The boundaries, all in whole seconds: a queued job lives while now ≤ timeout_time,
a job in progress while now ≤ last_updated + window, a finished one while
now ≤ last_updated + keep (docs/job-life.md).
"""

from enum import Enum
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta

from jobengine.domain.queue import Queue

PRIORITY_MIN = 1
PRIORITY_MAX = 100
# 9999-12-31T23:59:59Z: the last second that a four-digit year can name.
TIME_MAX = 253_402_300_799
Content = Annotated[
    msgspec.Raw, Meta(description="a JSON object", extra_json_schema={"type": "object"})
]
# What a job has in the place of a content that does not open; no content is that.
DAMAGED = b"null"
_Shown = Annotated[
    msgspec.Raw,
    Meta(
        description="the JSON object that its creator sent; null where what is stored is damaged",
        extra_json_schema={"type": ["object", "null"]},
    ),
]
_Time = Annotated[int, Meta(description="seconds since the Unix epoch")]


class State(Enum):
    """The states of a job, by their names on the wire."""

    QUEUED = "queued"  # waiting to be claimed
    INPROGRESS = "inprogress"  # claimed; fails when its window passes without an update
    COMPLETE = "complete"  # done; kept for a while
    FAILED = "failed"  # not done; kept for a while


class Job(msgspec.Struct, frozen=True, gc=False):
    """A job as a client sees it. Times are seconds since the Unix epoch.

    `content` is the JSON object exactly as its creator sent it, or DAMAGED; `priority` is
    1–100, 100 first; `timeout_time` is the last second at which it may be claimed.
    """

    content: _Shown
    created: _Time
    last_updated: _Time
    priority: Annotated[int, Meta(ge=PRIORITY_MIN, le=PRIORITY_MAX)]
    state: State
    timeout_time: _Time
    uid: Annotated[str, Meta(extra_json_schema={"format": "uuid"})]


class Changes(msgspec.Struct, frozen=True, gc=False):
    """What an update asks for; None leaves a field as it is."""

    status: State | None = None
    content: bytes | None = None
    timeout_time: int | None = None
    priority: int | None = None


class Standing(msgspec.Struct, frozen=True, gc=False):
    """The part of a stored job that time and updates change.

    `valid_for` is how many seconds its creator let it wait.
    """

    state: State
    priority: int
    last_updated: int
    timeout_time: int
    valid_for: int


def edition(content: bytes, priority: int, timeout_time: int) -> str:
    """A digest of what people edit of a job, to tell whether it has changed since."""
    return sha256(b"%d %d %b" % (priority, timeout_time, content)).hexdigest()


def aged(job: Standing, queue: Queue, now: int) -> Standing | None:
    """The job as time has made it by `now`; None when its time is over.

    A job that its window failed has failed at last_updated + window, whenever
    anybody looks, so that its keep time is exact too.
    """
    if job.state is State.QUEUED:
        return job if now <= job.timeout_time else None
    if job.state is State.INPROGRESS:
        if now <= job.last_updated + queue.window:
            return job
        job = msgspec.structs.replace(
            job, state=State.FAILED, last_updated=job.last_updated + queue.window
        )
    return job if now <= job.last_updated + queue.keep else None


def claimed_at(now: int, created: int, last_updated: int) -> int:
    """The last_updated of a job claimed now: later than created even in the same second."""
    return max(now, created + 1, last_updated)


def updated(job: Standing, changes: Changes, now: int) -> Standing:
    """The job after the changes. `job` is as time has made it by `now`.

    Any update is a heartbeat: last_updated becomes now, and never decreases. A job
    put back to queued after its timeout_time gets a new window of its own
    valid_for, unless the update gives a timeout_time.
    """
    state = changes.status or job.state
    timeout_time = job.timeout_time if changes.timeout_time is None else changes.timeout_time
    requeued = state is State.QUEUED and job.state is not State.QUEUED
    if requeued and changes.timeout_time is None and timeout_time < now:
        timeout_time = min(now + job.valid_for, TIME_MAX)
    return Standing(
        state=state,
        priority=changes.priority or job.priority,
        last_updated=max(now, job.last_updated),
        timeout_time=timeout_time,
        valid_for=job.valid_for,
    )
