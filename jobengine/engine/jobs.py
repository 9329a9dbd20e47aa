"""Create, claim, get, list, update and delete."""

import threading
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import msgspec

from jobengine.domain.clock import Clock
from jobengine.domain.errors import Busy, InvalidInput, Mistake, UnknownJob
from jobengine.domain.job import TIME_MAX, Changes, Job, State
from jobengine.domain.queue import Right
from jobengine.engine.listing import Cursor, Listing
from jobengine.engine.queues import Queues
from jobengine.store.operations import Claim, Create, Delete, NewJob, Update
from jobengine.store.reads import Reads
from jobengine.store.writer import Writer


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and on which queue, by their names."""

    service: str
    queue: str


class UidFactory(Protocol):
    """Makes uids: 16 bytes that rise with time, so that their index grows at its end."""

    def __call__(self) -> bytes:
        """A new uid."""


class Jobs:
    """The life of jobs, for callers with the right.

    Every method raises UnknownQueue and Forbidden; those that write return only when
    what they did is on disk, and raise Unavailable where it is not.
    """

    def __init__(
        self,
        writer: Writer,
        reads: Reads,
        queues: Queues,
        clock: Clock,
        new_uid: UidFactory,
        lists: int,
    ) -> None:
        """`lists` bounds the lists that may be read at once."""
        self._writer = writer
        self._reads = reads
        self._queues = queues
        self._clock = clock
        self._new_uid = new_uid
        self._lists = threading.BoundedSemaphore(lists)

    def create(self, caller: Caller, content: msgspec.Raw, valid_for: int, priority: int) -> Job:
        """Creates a queued job that may be claimed for `valid_for` seconds.

        Raises InvalidInput where that is beyond the year 9999.
        """
        queue = self._queues.authorise(caller.service, caller.queue, Right.WRITE)
        now = self._clock.now()
        timeout_time = now + valid_for
        if timeout_time > TIME_MAX:
            detail = f"expected at most {TIME_MAX - now} seconds, which end with the year 9999"
            raise InvalidInput([Mistake("pointer", "/valid_for", detail)])
        uid = self._new_uid()
        self._writer.submit(
            Create(queue, [NewJob(uid, priority, now, timeout_time, valid_for, bytes(content))])
        )
        return Job(content, now, now, priority, State.QUEUED, timeout_time, str(UUID(bytes=uid)))

    def claim(self, caller: Caller) -> Job | None:
        """Puts the job at the head of the queue in progress; None where none is queued."""
        queue = self._queues.authorise(caller.service, caller.queue, Right.READ)
        jobs = self._writer.submit(Claim(queue))
        return jobs[0] if jobs else None

    def get(self, caller: Caller, uid: bytes) -> Job:
        """The job. Raises UnknownJob."""
        queue = self._queues.authorise(caller.service, caller.queue, Right.EITHER)
        job = self._reads.get(queue, uid, self._clock.now())
        if job is None:
            raise UnknownJob
        return job

    def update(self, caller: Caller, uid: bytes, changes: Changes) -> Job:
        """Changes the job, which is also a heartbeat. Raises UnknownJob."""
        queue = self._queues.authorise(caller.service, caller.queue, Right.EITHER)
        return self._writer.submit(Update(queue, uid, changes))

    def delete(self, caller: Caller, uid: bytes) -> None:
        """Deletes the job, whatever its state. Raises UnknownJob."""
        queue = self._queues.authorise(caller.service, caller.queue, Right.WRITE)
        self._writer.submit(Delete(queue, uid))

    def list(
        self, caller: Caller, state: State | None, limit: int | None, cursor: Cursor | None
    ) -> Listing:
        """The queue's jobs in queue order; the caller must close what it gets.

        Raises Busy where too many lists are being read.
        """
        queue = self._queues.authorise(caller.service, caller.queue, Right.READ)
        if not self._lists.acquire(blocking=False):
            raise Busy("too many lists are being read: try again in a moment")
        try:
            return Listing(
                self._reads, self._clock, queue, state, limit, cursor, self._lists.release
            )
        except BaseException:
            self._lists.release()
            raise
