"""One batch: many operations, one statement per kind, one transaction.

None of the operations has been answered yet, so any order of them is as good as
the order in which they arrived; this one makes claims see what was created and
updated before them. Operations on one uid apply in the order of arrival.
"""

from collections.abc import Callable, Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection

from jobengine.domain.errors import StoreFailed, UnknownJob
from jobengine.domain.job import Changes, Job, updated
from jobengine.store import statements
from jobengine.store.models import CODE_OF, QUEUED
from jobengine.store.operations import Claim, Create, Delete, Operation, Task, Update
from jobengine.store.rows import Stored, stored

Step = Callable[[Connection, Sequence[Any], int], None]


def run(connection: Connection, operations: Sequence[Operation[Any]], now: int) -> None:
    """Runs the operations inside the connection's transaction and settles or refuses each.

    Raises nothing for an operation that fails: it is refused, its statement undone,
    and the others go on.
    """
    creates = [o for o in operations if isinstance(o, Create)]
    touches = [o for o in operations if isinstance(o, Update | Delete)]
    claims = [o for o in operations if isinstance(o, Claim)]
    if creates:
        _attempt(connection, _create, creates, now)
    if touches:
        _attempt(connection, _touch, touches, now)
    if claims:
        by_queue = attrgetter("queue.id")
        for _, group in groupby(sorted(claims, key=by_queue), by_queue):
            _attempt(connection, _claim, list(group), now)
    for operation in operations:
        if isinstance(operation, Task):
            _attempt(connection, _task, [operation], now)


def _attempt(
    connection: Connection, step: Step, operations: Sequence[Operation[Any]], now: int
) -> None:
    """Runs a step in a savepoint; where it fails, its operations alone, to find the guilty."""
    savepoint = connection.begin_nested()
    try:
        step(connection, operations, now)
    except Exception as error:  # noqa: BLE001  handed to the caller whose operation it is
        savepoint.rollback()
        if len(operations) == 1:
            operations[0].refuse(error)
            return
        for operation in operations:
            _attempt(connection, step, [operation], now)
    else:
        savepoint.commit()


def _create(connection: Connection, operations: Sequence[Create], _now: int) -> None:
    rows = [
        {
            "uid": new.uid,
            "queue_id": operation.queue.id,
            "state": QUEUED,
            "priority": new.priority,
            "created": new.created,
            "last_updated": new.created,
            "timeout_time": new.timeout_time,
            "valid_for": new.valid_for,
            "content": new.content,
        }
        for operation in operations
        for new in operation.jobs
    ]
    _expect(len(rows), connection.execute(statements.INSERT, rows).rowcount)
    for operation in operations:
        operation.settle(None)


def _claim(connection: Connection, operations: Sequence[Claim], now: int) -> None:
    """Claims for all of one queue at once, and deals the jobs out in order of arrival."""
    wanted = sum(operation.count for operation in operations)
    rows = connection.execute(
        statements.CLAIM, {"of_queue": operations[0].queue.id, "limit": wanted, "now": now}
    ).all()
    # RETURNING promises no order.
    head = (stored(row).as_job() for row in sorted(rows, key=lambda row: (-row.priority, row.id)))
    for operation in operations:
        operation.settle(list(islice(head, operation.count)))


def _touch(connection: Connection, operations: Sequence[Update | Delete], now: int) -> None:
    """Updates and deletes: reads the jobs locked, applies the rules, writes what came of it.

    Three statements whatever their number. An UPDATE … FROM (VALUES …) took 300 ms for
    500 jobs on SQLite, whose planner scans the table first; this takes 6.
    """
    uids = {operation.uid for operation in operations}
    found = connection.execute(statements.TOUCHED, {"uids": list(uids)})
    jobs: dict[bytes, Stored] = {row.uid: stored(row) for row in found}
    changed: dict[int, Stored] = {}
    contents: dict[int, bytes] = {}
    deleted: set[int] = set()
    for operation in operations:
        here = jobs.get(operation.uid)
        current = here.at(operation.queue, now) if here is not None else None
        if current is None or current.id in deleted:
            operation.refuse(UnknownJob())
        elif isinstance(operation, Delete):
            deleted.add(current.id)
            operation.settle(None)
        else:
            operation.settle(_change(current, operation.changes, now))
            changed[current.id] = current
            if operation.changes.content is not None:
                contents[current.id] = current.content
    _write(connection, [s for s in changed.values() if s.id not in deleted])
    _write_contents(connection, {k: v for k, v in contents.items() if k not in deleted})
    if deleted:
        result = connection.execute(statements.REMOVE, {"job_ids": list(deleted)})
        _expect(len(deleted), result.rowcount)


def _change(current: Stored, changes: Changes, now: int) -> Job:
    current.standing = updated(current.standing, changes, now)
    if changes.content is not None:
        current.content = changes.content
    return current.as_job()


def _write(connection: Connection, jobs: Sequence[Stored]) -> None:
    if not jobs:
        return
    rows = [
        {
            "job_id": job.id,
            "new_state": CODE_OF[job.standing.state],
            "new_priority": job.standing.priority,
            "new_last_updated": job.standing.last_updated,
            "new_timeout_time": job.standing.timeout_time,
        }
        for job in jobs
    ]
    _expect(len(rows), connection.execute(statements.CHANGE, rows).rowcount)


def _write_contents(connection: Connection, contents: dict[int, bytes]) -> None:
    if not contents:
        return
    rows = [{"job_id": id_, "new_content": content} for id_, content in contents.items()]
    _expect(len(rows), connection.execute(statements.CHANGE_CONTENT, rows).rowcount)


def _task(connection: Connection, operations: Sequence[Task[Any]], _now: int) -> None:
    (operation,) = operations
    operation.settle(operation.run(connection))


def _expect(rows: int, touched: int) -> None:
    if rows != touched:
        raise StoreFailed(f"a statement touched {touched} rows where {rows} were expected")
