"""One batch: many operations, a few statements, one transaction.

None of the operations has been answered yet, so any order of them is as good as
the order in which they arrived; this one makes claims see what was created and
updated before them. Operations on one uid apply in the order of arrival.

Claims, updates and deletes all work alike: read the jobs locked, apply the rules of
the domain, write what came of it.
"""

from collections.abc import Callable, Collection, Sequence
from itertools import chain, groupby
from operator import attrgetter
from typing import Any

import structlog
from sqlalchemy import Connection

from jobengine.domain.errors import AnswerFull, Conflict, NotFound, StoreFailed, UnknownJob
from jobengine.domain.job import Job, State
from jobengine.store import depths, statements
from jobengine.store.bounds import Room, with_room
from jobengine.store.contents import Contents
from jobengine.store.failures import concerns_all
from jobengine.store.models import CODE_OF, INPROGRESS, QUEUED
from jobengine.store.operations import (
    ANSWER_BYTES_MAX,
    Claim,
    Create,
    Delete,
    NewJob,
    Operation,
    Task,
    Update,
)
from jobengine.store.rows import Stored, claimed, stored

_log = structlog.get_logger(component="writer")

_FULL = "not changed: the contents before this one fill the answer; send this update again"

# The claims that wait for a job in the queue of an id, the oldest first.
Waiting = Callable[[int], Sequence[Claim]]
# The state, by its number, and the last_updated that jobs go to.
_Move = tuple[int, int]
# A row of INSERT, in the order of its parameters.
_NewRow = tuple[bytes, int, int, int, int, int, int, int, bytes]


def nobody(_queue_id: int) -> Sequence[Claim]:
    """No claim waits."""
    return ()


class Batch:
    """Runs operations inside a connection's transaction, as of `now`."""

    def __init__(
        self, connection: Connection, contents: Contents, now: int, waiting: Waiting = nobody
    ) -> None:
        """`contents` is how a job's content lies in the table; `waiting` who wants jobs."""
        self._connection = connection
        self._contents = contents
        self._now = now
        self._waiting = waiting
        self._jobs_moved = depths.Moves()

    def run(
        self, operations: Sequence[Operation[Any]], woken: Collection[int] = ()
    ) -> Collection[int]:
        """Runs the operations and settles or refuses each.

        Claims that wait are settled too, where jobs have come for them: to a queue that
        the operations fed, or to one that is `woken`. Gives the ids of the queues that
        were fed. Raises whatever a statement raises; then the whole batch is to be
        undone, and run again by `run_each`.
        """
        self._jobs_moved.clear()
        fed = self._write_jobs(operations)
        waiters = [claim for queue_id in {*fed, *woken} for claim in self._waiting(queue_id)]
        claims = [o for o in operations if isinstance(o, Claim)]
        self._claim_all([*waiters, *claims])
        for operation in operations:
            if isinstance(operation, Task):
                self._do(operation)
        self._note_jobs_moved()
        return fed

    def run_each(
        self, operations: Sequence[Operation[Any]], woken: Collection[int] = ()
    ) -> Collection[int]:
        """Runs each operation alone in a savepoint, so that only the guilty fail.

        Raises an error that all of them would meet; then the batch is to be undone.
        """
        alone = Batch(self._connection, self._contents, self._now)
        for operation in operations:
            savepoint = self._connection.begin_nested()
            try:
                alone.run([operation])
            except Exception as error:
                savepoint.rollback()
                if concerns_all(error):
                    raise
                _log.exception("an operation failed", operation=type(operation).__name__)
                failure = StoreFailed("the database refused the change; nothing was changed")
                failure.__cause__ = error
                operation.refuse(failure)
            else:
                savepoint.commit()
        fed = {o.queue.id for o in operations if isinstance(o, Create | Update)}
        self._claim_all([claim for id_ in {*fed, *woken} for claim in self._waiting(id_)])
        self._note_jobs_moved()
        return fed

    def _do(self, task: Task[Any]) -> None:
        try:
            task.settle(task.run(self._connection))
        except (NotFound, Conflict) as error:
            task.refuse(error)

    def _note_jobs_moved(self) -> None:
        if self._jobs_moved:
            depths.note(self._connection, self._jobs_moved)
            self._jobs_moved.clear()

    def _write_jobs(self, operations: Sequence[Operation[Any]]) -> Collection[int]:
        """Creates, updates and deletes; the ids of the queues that got queued jobs by it."""
        creates = [o for o in operations if isinstance(o, Create)]
        touches = [o for o in operations if isinstance(o, Update | Delete)]
        fed = {create.queue.id for create in creates}
        if creates:
            self._create(creates)
        if touches:
            fed |= self._touch(touches)
        return fed

    def _create(self, operations: Sequence[Create]) -> None:
        taken = with_room(self._connection, operations)
        rows = [self._new_row(create.queue.id, new) for create in taken for new in create.jobs]
        size = statements.INSERT_ROWS
        whole = len(rows) - len(rows) % size
        flat = [tuple(chain.from_iterable(rows[at : at + size])) for at in range(0, whole, size)]
        inserted = statements.INSERT_MANY.many(self._connection, flat) if flat else 0
        if rows[whole:]:
            inserted += statements.INSERT.many(self._connection, rows[whole:])
        _expect(len(rows), inserted)
        for create in taken:
            self._jobs_moved[create.queue.id, None, QUEUED] += len(create.jobs)
            create.settle(None)

    def _new_row(self, queue_id: int, new: NewJob) -> _NewRow:
        return (
            new.uid,
            queue_id,
            QUEUED,
            new.priority,
            new.created,
            new.created,
            new.timeout_time,
            new.valid_for,
            self._contents.seal(new.uid, new.content),
        )

    def _claim_all(self, operations: Sequence[Claim]) -> None:
        by_queue = attrgetter("queue.id")
        for _, group in groupby(sorted(operations, key=by_queue), by_queue):
            claims = []
            for claim in group:
                claim.settle([])
                if claim.after is None or not claim.after.refused:
                    claims.append(claim)
            if claims:
                self._claim(claims)

    def _claim(self, operations: Sequence[Claim]) -> None:
        """Deals the head of one queue to its claims, in the order of their arrival."""
        limit = sum(claim.count for claim in operations)
        binds = {"of_queue": operations[0].queue.id, "limit": limit, "now": self._now}
        moves: dict[_Move, list[int]] = {}
        with statements.HEAD.cursor(self._connection, binds) as rows:
            claims = iter(operations)
            claim, jobs, size = next(claims), list[Job](), 0
            for row in rows:
                id_, content = row[0], row[-1]
                length = self._size(id_) if content is None else len(content)
                if len(jobs) == claim.count or (jobs and size + length > ANSWER_BYTES_MAX):
                    claim.settle(jobs)
                    following = next(claims, None)
                    if following is None:
                        break
                    claim, jobs, size = following, [], 0
                whole = self._contents.open(row[1], content or self._content(id_))
                job = claimed(row, whole, self._now)
                jobs.append(job)
                size += length
                moves.setdefault((INPROGRESS, job.last_updated), []).append(id_)
            else:
                claim.settle(jobs)
        self._move(moves)
        claimed_jobs = sum(len(ids) for ids in moves.values())
        if claimed_jobs:
            self._jobs_moved[operations[0].queue.id, QUEUED, INPROGRESS] += claimed_jobs

    def _move(self, moves: dict[_Move, list[int]]) -> None:
        for move, ids in moves.items():
            _expect(len(ids), statements.MOVE.count(self._connection, ids, move))

    def _touch(self, operations: Sequence[Update | Delete]) -> set[int]:
        """Updates and deletes; gives the ids of the queues that got a queued job by it.

        A few statements whatever their number. An UPDATE … FROM (VALUES …) took 300 ms for
        500 jobs on SQLite, whose planner scans the table first; this takes 6.
        """
        # In one order for all, so that the batches of two servers cannot deadlock.
        uids = sorted({operation.uid for operation in operations})
        found = (stored(row) for row in statements.TOUCHED.rows(self._connection, uids))
        jobs = {here.uid: here for here in found}
        changed: dict[int, Stored] = {}
        deleted: set[int] = set()
        room = Room(self._size)
        for operation in operations:
            here = jobs.get(operation.uid)
            current = here.at(operation.queue, self._now) if here is not None else None
            if current is None or current.id in deleted:
                operation.refuse(UnknownJob())
            elif isinstance(operation, Delete):
                deleted.add(current.id)
                operation.settle(None)
            elif not room.takes(operation, current):
                operation.refuse(AnswerFull(_FULL))
            else:
                current.change(operation.changes, self._now)
                changed[current.id] = current
                operation.settle(current.as_job(self._whole(current)))
        left = [here for here in changed.values() if here.id not in deleted]
        self._write(left)
        if deleted:
            _expect(len(deleted), statements.REMOVE.count(self._connection, list(deleted)))
            for here in jobs.values():
                if here.id in deleted:
                    self._jobs_moved[here.queue_id, here.code, None] += 1
        return {here.queue_id for here in left if here.standing.state is State.QUEUED}

    def _write(self, jobs: Sequence[Stored]) -> None:
        for here in jobs:
            code = CODE_OF[here.standing.state]
            if code != here.code:
                self._jobs_moved[here.queue_id, here.code, code] += 1
        rows = [
            (
                CODE_OF[here.standing.state],
                here.standing.priority,
                here.standing.last_updated,
                here.standing.timeout_time,
                here.id,
            )
            for here in jobs
            if not here.moved_only
        ]
        if rows:
            _expect(len(rows), statements.CHANGE.many(self._connection, rows))
        moves: dict[_Move, list[int]] = {}
        for here in jobs:
            if here.moved_only:
                move = CODE_OF[here.standing.state], here.standing.last_updated
                moves.setdefault(move, []).append(here.id)
        self._move(moves)
        contents = [
            (self._contents.seal(here.uid, here.new_content), here.id)
            for here in jobs
            if here.new_content is not None
        ]
        if contents:
            _expect(len(contents), statements.CHANGE_CONTENT.many(self._connection, contents))

    def _whole(self, job: Stored) -> bytes:
        """The job's content, as its client sent it."""
        if job.new_content is not None:
            return job.new_content
        if job.content is None:
            job.content = self._content(job.id)
        return self._contents.open(job.uid, job.content)

    def _content(self, id_: int) -> bytes:
        return bytes(statements.CONTENT.value(self._connection, {"job_id": id_}))

    def _size(self, id_: int) -> int:
        return int(statements.CONTENT_SIZE.value(self._connection, {"job_id": id_}))


def _expect(rows: int, touched: int) -> None:
    if rows != touched:
        raise RuntimeError(f"a statement touched {touched} rows where {rows} were expected")
