"""What time does to stored jobs, done in bounded chunks.

Nothing a client sees waits for these: every other statement tests the times by
itself. Those that take a `limit` touch up to so many jobs, and count them by queue id.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from jobengine.domain.queue import Queue
from jobengine.store import depths, statements
from jobengine.store.depths import Moves
from jobengine.store.models import FAILED, INPROGRESS, QUEUED

Counts = Counter[int]


def expire(connection: Connection, now: int, limit: int) -> Counts:
    """Deletes queued jobs past their timeout_time."""
    return _delete(connection, statements.EXPIRE, QUEUED, now, limit)


def fail(connection: Connection, queue: Queue, ids: Sequence[int], now: int) -> int:
    """Fails those of the jobs that are in progress past the queue's window, as of its end."""
    failed = statements.FAIL.count(connection, ids, (queue.window, now - queue.window))
    depths.note(connection, Moves({(queue.id, INPROGRESS, FAILED): failed}))
    return failed


def prune(connection: Connection, now: int, limit: int) -> Counts:
    """Deletes complete and failed jobs past their queue's keep time."""
    counts = Counts()
    for state, statement in statements.PRUNE.items():
        counts += _delete(connection, statement, state, now, limit - counts.total())
    return counts


def purge(connection: Connection, queue_id: int, state: int | None, last: int, limit: int) -> int:
    """Deletes jobs of the queue up to the id `last`, those in a state or all; how many."""
    binds = {"of_queue": queue_id, "last": last, "limit": limit}
    gone = Counts(connection.execute(statements.PURGE[state], binds).scalars())
    depths.note(connection, Moves({(queue_id, code, None): n for code, n in gone.items()}))
    return gone.total()


def _delete(connection: Connection, statement: Any, state: int, now: int, limit: int) -> Counts:
    if not limit:
        return Counts()
    counts = Counts(connection.execute(statement, {"now": now, "limit": limit}).scalars())
    depths.note(connection, Moves({(id_, state, None): n for id_, n in counts.items()}))
    return counts
