"""What time does to stored jobs, done in bounded chunks.

Nothing a client sees waits for these: every other statement tests the times by
itself. Each counts in a tally what it does; those that take a `limit` touch up to so many
jobs, and count them by queue id.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from jobengine.domain.queue import Queue
from jobengine.store.tables import statements
from jobengine.store.tables.models import FAILED, INPROGRESS, QUEUED
from jobengine.store.tables.tally import Tally

Counts = Counter[int]


def expire(connection: Connection, tally: Tally, now: int, limit: int) -> Counts:
    """Deletes queued jobs past their timeout_time."""
    counts = _delete(connection, tally, statements.EXPIRE, QUEUED, now, limit)
    tally.expired.update(counts)
    return counts


def expire_head(
    connection: Connection, tally: Tally, queue: Queue, binds: Mapping[str, int]
) -> int:
    """Deletes the expired among jobs that a claim on the queue met; how many."""
    found = connection.execute(statements.EXPIRE_HEAD, {"of_queue": queue.id, **binds})
    deleted = len(found.scalars().all())
    tally.moves[queue.id, QUEUED, None] += deleted
    tally.expired[queue.id] += deleted
    tally.met[queue.name] += deleted
    return deleted


def fail(connection: Connection, tally: Tally, queue: Queue, ids: Sequence[int], now: int) -> int:
    """Fails those of the jobs that are in progress past the queue's window, as of its end."""
    found = statements.IN_PROGRESS.rows(connection, ids)
    overdue = [row for row in found if row[1] < now - queue.window]
    if not overdue:
        return 0
    for _, last_updated, since in overdue:
        tally.moved(queue.id, INPROGRESS, FAILED, since, last_updated + queue.window)
    over = [id_ for id_, _, _ in overdue]
    failed = statements.FAIL.count(connection, over, (queue.window, queue.window))
    if failed != len(over):
        raise RuntimeError(f"{failed} jobs failed where {len(over)} were locked")
    return failed


def prune(connection: Connection, tally: Tally, now: int, limit: int) -> Counts:
    """Deletes complete and failed jobs past their queue's keep time."""
    counts = Counts()
    for state, statement in statements.PRUNE.items():
        counts += _delete(connection, tally, statement, state, now, limit - counts.total())
    return counts


def purge(
    connection: Connection, tally: Tally, queue_id: int, state: int | None, last: int, limit: int
) -> int:
    """Deletes jobs of the queue up to the id `last`, those in a state or all; how many."""
    binds = {"of_queue": queue_id, "last": last, "limit": limit}
    gone = Counts(connection.execute(statements.PURGE[state], binds).scalars())
    for code, jobs in gone.items():
        tally.moves[queue_id, code, None] += jobs
    return gone.total()


def _delete(
    connection: Connection, tally: Tally, statement: Any, state: int, now: int, limit: int
) -> Counts:
    if not limit:
        return Counts()
    counts = Counts(connection.execute(statement, {"now": now, "limit": limit}).scalars())
    for queue_id, jobs in counts.items():
        tally.moves[queue_id, state, None] += jobs
    return counts
