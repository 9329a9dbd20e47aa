"""Create, claim, get, list, update and delete."""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from jobengine.domain.clock import Clock
from jobengine.domain.errors import AnswerFull, Busy, InvalidInput, Mistake, UnknownJob
from jobengine.domain.job import TIME_MAX, Changes, Job, State
from jobengine.domain.queue import Right
from jobengine.domain.uids import uid_text
from jobengine.engine.listing import Cursor, Listing
from jobengine.engine.permits import Caller, Permit, Permits
from jobengine.engine.tracing import Operation, Tracing
from jobengine.store.reads import Reads
from jobengine.store.writing.operations import Claim, Create, Delete, NewJob, Update
from jobengine.store.writing.writer import Writer


def _always() -> bool:
    return True


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A job to create: its content, the seconds it may wait to be claimed, its priority."""

    content: msgspec.Raw
    valid_for: int
    priority: int


class Claimed(msgspec.Struct, frozen=True):
    """The jobs of a claim; `turned_away` where it might have waited, but for the others."""

    jobs: list[Job]
    turned_away: bool = False


class UidFactory(Protocol):
    """Makes uids: 16 bytes that rise with time, so that their index grows at its end."""

    def __call__(self) -> bytes:
        """A new uid."""


class Jobs:
    """The life of jobs, for callers with the right.

    Every method raises UnknownQueue and Forbidden, and those that write Unauthenticated, where
    the caller's key, its right or the queue ends before the write. They return only when what
    they did is on disk, and raise Unavailable where it is not.
    """

    def __init__(
        self,
        writer: Writer,
        reads: Reads,
        permits: Permits,
        clock: Clock,
        new_uid: UidFactory,
        lists: int,
        waiters: int,
        tracing: Tracing | None = None,
    ) -> None:
        """`lists` bounds the long lists, of more than a chunk, that are read at once.

        `waiters` bounds the claims that may wait for a job at once. Without `tracing`,
        no trace is written or read.
        """
        self._writer = writer
        self._reads = reads
        self._permits = permits
        self._clock = clock
        self._new_uid = new_uid
        self._tracing = tracing
        self._waiters = threading.BoundedSemaphore(waiters)
        self._lists = threading.BoundedSemaphore(lists)

    def authorise(self, caller: Caller, right: Right) -> Permit:
        """What a caller with the right is let in by: asked for before a body is read."""
        return self._permits.give(caller, right)

    def create(self, permit: Permit, drafts: Sequence[Draft], place: str = "") -> Sequence[Job]:
        """Creates queued jobs, all or none, that may be claimed for `valid_for` seconds.

        Raises InvalidInput where that is beyond the year 9999. `place` is the JSON
        pointer of a draft in the body, with {} for its index.
        """
        queue, by = permit.queue, permit.caller.service
        now = self._clock.now()
        longest = TIME_MAX - now
        if any(draft.valid_for > longest for draft in drafts):
            detail = f"expected at most {longest} seconds, which end with the year 9999"
            raise InvalidInput(
                Mistake("pointer", f"{place.format(index)}/valid_for", detail)
                for index, draft in enumerate(drafts)
                if draft.valid_for > longest
            )
        jobs = [_queued(draft, now, self._new_uid()) for draft in drafts]
        trace = None if self._tracing is None else self._tracing.creator()
        new_jobs = [new for new, _ in jobs]
        self._writer.submit(Create(queue, new_jobs, by, trace, permit=permit.check))
        made = [job for _, job in jobs]
        if self._tracing is not None:
            self._tracing.note(Operation.CREATE, queue.name, [job.uid for job in made])
        return made

    def claim(
        self, caller: Caller, count: int = 1, wait: float = 0, wanted: Callable[[], bool] = _always
    ) -> Claimed:
        """Puts up to `count` jobs at the head of the queue in progress.

        Where none is queued, it waits up to `wait` seconds for one, unless too many
        callers wait already; `wanted` says whether the caller is still there.
        """
        permit = self._permits.give(caller, Right.READ)
        claim = self._new_claim(permit, count)
        if wait and self._waiters.acquire(blocking=False):
            claim.wait, claim.wanted = wait, wanted
            try:
                jobs, turned_away = self._writer.submit(claim), False
            finally:
                self._waiters.release()
        else:
            jobs = self._writer.submit(claim)
            turned_away = bool(wait) and not jobs
        if self._tracing is not None:
            uids = [job.uid for job in jobs]
            self._tracing.note(Operation.CLAIM, permit.queue.name, uids, claim.traces)
        return Claimed(jobs, turned_away)

    def get(self, caller: Caller, uid: bytes) -> Job:
        """The job. Raises UnknownJob."""
        queue = self._permits.give(caller, Right.EITHER).queue
        job = self._reads.get(queue, uid, self._clock.now())
        if job is None:
            raise UnknownJob
        return job

    def update(self, permit: Permit, uid: bytes, changes: Changes) -> Job:
        """Changes the job, which is also a heartbeat. Raises UnknownJob."""
        queue = permit.queue
        update = Update(queue, uid, changes, permit.caller.service, permit=permit.check)
        job = self._writer.submit(update)
        if self._tracing is not None:
            self._tracing.note(Operation.UPDATE, queue.name, [job.uid])
        return job

    def update_and_claim(self, permit: Permit, uid: bytes, changes: Changes) -> Job | None:
        """Changes the job, and claims the next in the same commit; None where none is queued.

        Claims nothing where the update is refused. Raises UnknownJob.
        """
        queue = permit.queue
        update = Update(queue, uid, changes, permit.caller.service, permit=permit.check)
        claim = self._new_claim(permit, after=update)
        self._writer.submit_all([update, claim])
        updated = update.outcome()
        jobs = claim.outcome()
        if self._tracing is not None:
            self._tracing.note(Operation.UPDATE, queue.name, [updated.uid], claim.traces)
        return jobs[0] if jobs else None

    def update_many(
        self, permit: Permit, updates: Sequence[tuple[bytes | None, Changes]], count: int = 0
    ) -> tuple[list[Job | UnknownJob | AnswerFull], Sequence[Job]]:
        """Changes jobs, and claims up to `count` in the same commit.

        A uid of None stands for none that any job can have. Gives what each update came
        to, in their order, and the jobs claimed.
        """
        queue = permit.queue
        answer, by = object(), permit.caller.service
        made = [
            None
            if uid is None
            else Update(queue, uid, changes, by, answer=answer, permit=permit.check)
            for uid, changes in updates
        ]
        operations: list[Update | Claim] = [update for update in made if update is not None]
        claim = self._new_claim(permit, count)
        if count:
            operations.append(claim)
        if operations:
            self._writer.submit_all(operations)
        outcomes = [_outcome(update) for update in made]
        if self._tracing is not None:
            uids = [outcome.uid for outcome in outcomes if isinstance(outcome, Job)]
            self._tracing.note(Operation.UPDATE, queue.name, uids, claim.traces)
        return outcomes, claim.outcome() if count else []

    def delete(self, caller: Caller, uid: bytes) -> None:
        """Deletes the job, whatever its state. Raises UnknownJob."""
        permit = self._permits.give(caller, Right.WRITE)
        queue = permit.queue
        self._writer.submit(Delete(queue, uid, permit=permit.check))
        if self._tracing is not None:
            self._tracing.note(Operation.DELETE, queue.name, [uid_text(uid)])

    def list(
        self, caller: Caller, state: State | None, limit: int | None, cursor: Cursor | None
    ) -> Listing:
        """The queue's jobs in queue order; the caller must close what it gets.

        Raises Busy where too many lists that take more than a chunk are being read.
        """
        permit = self._permits.give(caller, Right.READ)
        listing = Listing(self._reads, self._clock, permit, state, limit, cursor)
        if not listing.ended:
            if not self._lists.acquire(blocking=False):
                raise Busy("too many long lists are being read: try again in a moment")
            listing.on_close(self._lists.release)
        return listing

    def _new_claim(self, permit: Permit, count: int = 1, after: Update | None = None) -> Claim:
        traced = self._tracing is not None
        by = permit.caller.service
        return Claim(permit.queue, count, by, after=after, traced=traced, permit=permit.check)


def _queued(draft: Draft, now: int, uid: bytes) -> tuple[NewJob, Job]:
    """A draft as it is stored, and as its creator sees it."""
    end = now + draft.valid_for
    new = NewJob(uid, draft.priority, now, end, draft.valid_for, bytes(draft.content))
    return new, Job(draft.content, now, now, draft.priority, State.QUEUED, end, uid_text(uid))


def _outcome(update: Update | None) -> Job | UnknownJob | AnswerFull:
    if update is None:
        return UnknownJob()
    try:
        return update.outcome()
    except (UnknownJob, AnswerFull) as error:
        return error
