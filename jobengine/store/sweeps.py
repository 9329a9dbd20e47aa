"""What time does to stored jobs, done in bounded chunks.

Nothing a client sees waits for these: every other statement tests the times by
itself. Those that take a `limit` touch up to so many jobs, and count them by queue id.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from jobengine.domain.queue import Queue
from jobengine.store import statements

Counts = Counter[int]


def expire(connection: Connection, now: int, limit: int) -> Counts:
    """Deletes queued jobs past their timeout_time."""
    return _run(connection, statements.EXPIRE, now, limit)


def fail(connection: Connection, queue: Queue, ids: Sequence[int], now: int) -> int:
    """Fails those of the jobs that are in progress past the queue's window, as of its end."""
    return statements.FAIL.count(connection, ids, (queue.window, now - queue.window))


def prune(connection: Connection, now: int, limit: int) -> Counts:
    """Deletes complete and failed jobs past their queue's keep time."""
    counts = _run(connection, statements.PRUNE["complete"], now, limit)
    if counts.total() < limit:
        counts += _run(connection, statements.PRUNE["failed"], now, limit - counts.total())
    return counts


def _run(connection: Connection, statement: Any, now: int, limit: int) -> Counts:
    rows = connection.execute(statement, {"now": now, "limit": limit})
    return Counter(row.queue_id for row in rows)
