"""What time does to stored jobs, done in bounded chunks.

Nothing a client sees waits for these: every other statement tests the times by
itself. Each function touches up to `limit` jobs and counts them by queue id.
"""

from collections import Counter
from typing import Any

from sqlalchemy import Connection

from jobengine.store import statements

Counts = Counter[int]


def expire(connection: Connection, now: int, limit: int) -> Counts:
    """Deletes queued jobs past their timeout_time."""
    return _run(connection, statements.EXPIRE, now, limit)


def fail(connection: Connection, now: int, limit: int) -> Counts:
    """Fails jobs in progress past their queue's window, as of the end of the window."""
    return _run(connection, statements.FAIL, now, limit)


def prune(connection: Connection, now: int, limit: int) -> Counts:
    """Deletes complete and failed jobs past their queue's keep time."""
    counts = _run(connection, statements.PRUNE["complete"], now, limit)
    if counts.total() < limit:
        counts += _run(connection, statements.PRUNE["failed"], now, limit - counts.total())
    return counts


def _run(connection: Connection, statement: Any, now: int, limit: int) -> Counts:
    rows = connection.execute(statement, {"now": now, "limit": limit})
    return Counter(row.queue_id for row in rows)
