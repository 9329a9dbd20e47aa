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

from jobengine.domain.errors import AnswerFull, StoreFailed, UnknownJob
from jobengine.domain.job import Job, State
from jobengine.store import statements
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


def run(
    connection: Connection,
    operations: Sequence[Operation[Any]],
    now: int,
    waiting: Waiting = nobody,
) -> None:
    """Runs the operations inside the connection's transaction and settles or refuses each.

    Claims that wait are settled too, where jobs have come for them. Raises whatever a
    statement raises; then the whole batch is to be undone, and run again by `run_each`.
    """
    fed = _write_jobs(connection, operations, now)
    waiters = [claim for queue_id in fed for claim in waiting(queue_id)]
    claims = [o for o in operations if isinstance(o, Claim)]
    _claim_all(connection, [*waiters, *claims], now)
    for operation in operations:
        if isinstance(operation, Task):
            operation.settle(operation.run(connection))


def run_each(
    connection: Connection,
    operations: Sequence[Operation[Any]],
    now: int,
    waiting: Waiting = nobody,
) -> None:
    """Runs each operation alone in a savepoint, so that only the guilty fail."""
    for operation in operations:
        savepoint = connection.begin_nested()
        try:
            run(connection, [operation], now)
        except Exception as error:  # noqa: BLE001  logged, and told to its caller
            savepoint.rollback()
            _log.exception("an operation failed", operation=type(operation).__name__)
            failure = StoreFailed("the database refused the change; nothing was changed")
            failure.__cause__ = error
            operation.refuse(failure)
        else:
            savepoint.commit()
    touched = {o.queue.id for o in operations if isinstance(o, Create | Update)}
    _claim_all(connection, [claim for id_ in touched for claim in waiting(id_)], now)


def _write_jobs(
    connection: Connection, operations: Sequence[Operation[Any]], now: int
) -> Collection[int]:
    """Creates, updates and deletes; the ids of the queues that got queued jobs by it."""
    creates = [o for o in operations if isinstance(o, Create)]
    touches = [o for o in operations if isinstance(o, Update | Delete)]
    fed = {create.queue.id for create in creates}
    if creates:
        _create(connection, creates)
    if touches:
        fed |= _touch(connection, touches, now)
    return fed


def _create(connection: Connection, operations: Sequence[Create]) -> None:
    rows = [_new_row(create.queue.id, new) for create in operations for new in create.jobs]
    size = statements.INSERT_ROWS
    whole = len(rows) - len(rows) % size
    flat = [tuple(chain.from_iterable(rows[at : at + size])) for at in range(0, whole, size)]
    inserted = statements.INSERT_MANY.many(connection, flat) if flat else 0
    if rows[whole:]:
        inserted += statements.INSERT.many(connection, rows[whole:])
    _expect(len(rows), inserted)
    for create in operations:
        create.settle(None)


def _new_row(queue_id: int, new: NewJob) -> _NewRow:
    return (
        new.uid,
        queue_id,
        QUEUED,
        new.priority,
        new.created,
        new.created,
        new.timeout_time,
        new.valid_for,
        new.content,
    )


def _claim_all(connection: Connection, operations: Sequence[Claim], now: int) -> None:
    by_queue = attrgetter("queue.id")
    for _, group in groupby(sorted(operations, key=by_queue), by_queue):
        claims = []
        for claim in group:
            claim.settle([])
            if claim.after is None or not claim.after.refused:
                claims.append(claim)
        if claims:
            _claim(connection, claims, now)


def _claim(connection: Connection, operations: Sequence[Claim], now: int) -> None:
    """Deals the head of one queue to its claims, in the order of their arrival."""
    limit = sum(claim.count for claim in operations)
    binds = {"of_queue": operations[0].queue.id, "limit": limit, "now": now}
    moves: dict[_Move, list[int]] = {}
    with statements.HEAD.cursor(connection, binds) as rows:
        claims = iter(operations)
        claim, jobs, size = next(claims), list[Job](), 0
        for row in rows:
            id_, content = row[0], row[-1]
            length = _size(connection, id_) if content is None else len(content)
            if len(jobs) == claim.count or (jobs and size + length > ANSWER_BYTES_MAX):
                claim.settle(jobs)
                following = next(claims, None)
                if following is None:
                    break
                claim, jobs, size = following, [], 0
            job = claimed(row, _content(connection, id_) if content is None else content, now)
            jobs.append(job)
            size += length
            moves.setdefault((INPROGRESS, job.last_updated), []).append(id_)
        else:
            claim.settle(jobs)
    _move(connection, moves)


def _move(connection: Connection, moves: dict[_Move, list[int]]) -> None:
    for move, ids in moves.items():
        _expect(len(ids), statements.MOVE.count(connection, ids, move))


def _touch(connection: Connection, operations: Sequence[Update | Delete], now: int) -> set[int]:
    """Updates and deletes; gives the ids of the queues that got a queued job by it.

    A few statements whatever their number. An UPDATE … FROM (VALUES …) took 300 ms for
    500 jobs on SQLite, whose planner scans the table first; this takes 6.
    """
    uids = list({operation.uid for operation in operations})
    found = (stored(row) for row in statements.TOUCHED.rows(connection, uids))
    jobs = {here.uid: here for here in found}
    changed: dict[int, Stored] = {}
    deleted: set[int] = set()
    room = _Room()
    for operation in operations:
        here = jobs.get(operation.uid)
        current = here.at(operation.queue, now) if here is not None else None
        if current is None or current.id in deleted:
            operation.refuse(UnknownJob())
        elif isinstance(operation, Delete):
            deleted.add(current.id)
            operation.settle(None)
        elif not room.takes(connection, operation, current):
            operation.refuse(AnswerFull(_FULL))
        else:
            current.change(operation.changes, now)
            changed[current.id] = current
            if current.content is None:
                current.content = _content(connection, current.id)
            operation.settle(current.as_job())
    left = [here for here in changed.values() if here.id not in deleted]
    _write(connection, left)
    if deleted:
        _expect(len(deleted), statements.REMOVE.count(connection, list(deleted)))
    return {here.queue_id for here in left if here.standing.state is State.QUEUED}


def _content(connection: Connection, id_: int) -> bytes:
    return bytes(statements.CONTENT.value(connection, {"job_id": id_}))


def _size(connection: Connection, id_: int) -> int:
    return int(statements.CONTENT_SIZE.value(connection, {"job_id": id_}))


class _Room:
    """What is left in the answers that several updates share."""

    def __init__(self) -> None:
        self._taken: dict[object, int] = {}

    def takes(self, connection: Connection, update: Update, job: Stored) -> bool:
        """Whether the job's content fits into the update's answer; notes it there."""
        if update.answer is None:
            return True
        content = update.changes.content or job.content
        size = _size(connection, job.id) if content is None else len(content)
        taken = self._taken.get(update.answer, 0)
        if taken and taken + size > ANSWER_BYTES_MAX:
            return False
        self._taken[update.answer] = taken + size
        return True


def _write(connection: Connection, jobs: Sequence[Stored]) -> None:
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
        _expect(len(rows), statements.CHANGE.many(connection, rows))
    moves: dict[_Move, list[int]] = {}
    for here in jobs:
        if here.moved_only:
            move = CODE_OF[here.standing.state], here.standing.last_updated
            moves.setdefault(move, []).append(here.id)
    _move(connection, moves)
    contents = [(here.content, here.id) for here in jobs if here.content_changed]
    if contents:
        _expect(len(contents), statements.CHANGE_CONTENT.many(connection, contents))


def _expect(rows: int, touched: int) -> None:
    if rows != touched:
        raise RuntimeError(f"a statement touched {touched} rows where {rows} were expected")
