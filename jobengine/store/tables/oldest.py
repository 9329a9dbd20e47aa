"""The oldest queued job of each queue.

Ids rise in the order of creation, so it is the first of one of the queue's priorities. These are
found by skipping down the claim index from one to the next, for all queues in one statement: by a
statement for each priority, 100 queues of 100 priorities took 700 ms.
"""

from collections.abc import Sequence

from sqlalchemy import CTE, ColumnElement, Connection, ScalarSelect, bindparam, func, select

from jobengine.store.tables.models import QUEUED, in_state, job, queue

# SQLite takes 32,766 parameters by default, some builds 999.
_PART = 512


def oldest_queued(connection: Connection, queue_ids: Sequence[int]) -> dict[int, int]:
    """When the oldest queued job of each queue was created; queues without any are left out."""
    found: dict[int, int] = {}
    for at in range(0, len(queue_ids), _PART):
        rows = connection.execute(OLDEST_QUEUED, {"queue_ids": queue_ids[at : at + _PART]})
        found |= {row.queue_id: row.created for row in rows}
    return found


def _of_queued(
    what: ColumnElement[int], queue_id: ColumnElement[int], *where: ColumnElement[bool]
) -> ScalarSelect[int]:
    """The value over the queued jobs of a queue, which stands outside: one step in the index."""
    jobs = select(what).where(job.c.queue_id == queue_id, in_state(QUEUED), *where)
    return jobs.correlate_except(job).scalar_subquery()


def _priorities() -> CTE:
    """The priorities that each queue has queued jobs of, and after the last NULL."""
    highest = func.max(job.c.priority)
    first = select(
        queue.c.id.label("queue_id"), _of_queued(highest, queue.c.id).label("priority")
    ).where(queue.c.id.in_(bindparam("queue_ids", expanding=True)))
    found = first.cte("priorities", recursive=True)
    below = _of_queued(highest, found.c.queue_id, job.c.priority < found.c.priority)
    return found.union_all(select(found.c.queue_id, below).where(found.c.priority.is_not(None)))


def _oldest() -> CTE:
    found = _priorities()
    first = _of_queued(func.min(job.c.id), found.c.queue_id, job.c.priority == found.c.priority)
    firsts = select(found.c.queue_id, first.label("id")).cte("firsts")
    return (
        select(firsts.c.queue_id, func.min(firsts.c.id).label("id"))
        .group_by(firsts.c.queue_id)
        .cte("oldest")
    )


_OLDEST = _oldest()
OLDEST_QUEUED = select(_OLDEST.c.queue_id, job.c.created).join(job, job.c.id == _OLDEST.c.id)
