"""The statements of the write path and of the sweeps. Each takes a list.

Written once for SQLite and PostgreSQL: `with_for_update` renders nothing on
SQLite, where BEGIN IMMEDIATE already holds the lock.
"""

from typing import Any

from sqlalchemy import BigInteger, Select, bindparam, case, delete, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from jobengine.store.models import (
    COMPLETE,
    FAILED,
    INPROGRESS,
    QUEUED,
    in_state,
    job,
    not_queued,
    queue,
)
from jobengine.store.rows import JOB_COLUMNS

_now = bindparam("now", type_=BigInteger)
_limit: Any = bindparam("limit", type_=BigInteger)

INSERT = insert(job)


def _claim() -> Any:
    due = (
        select(job.c.id)
        .where(
            job.c.queue_id == bindparam("of_queue"),
            in_state(QUEUED),
            job.c.timeout_time >= _now,
        )
        .order_by(job.c.priority.desc(), job.c.id)
        .limit(_limit)
        .with_for_update(skip_locked=True)
        # MATERIALIZED: PostgreSQL may evaluate a plain subselect twice, and claim too much.
        .cte("due")
        .prefix_with("MATERIALIZED")
    )
    return (
        update(job)
        .where(job.c.id.in_(select(due.c.id)))
        .values(
            state=INPROGRESS,
            last_updated=_greatest(_now, job.c.created + 1, job.c.last_updated),
        )
        .returning(*JOB_COLUMNS)
    )


def _greatest(now: Any, *others: ColumnElement[int]) -> ColumnElement[int]:
    """The largest of the values; max() and greatest() go by other names on each engine."""
    first, second = others
    return case(((now >= first) & (now >= second), now), (first >= second, first), else_=second)


# The head of the queue, put in progress. last_updated is later than created even in
# the second of creation, and never decreases.
CLAIM = _claim()

# The jobs that updates and deletes touch, locked, as they lie in the table.
TOUCHED = (
    select(*JOB_COLUMNS)
    .where(job.c.uid.in_(bindparam("uids", expanding=True)))
    .order_by(job.c.id)  # one order for all, so that two batches cannot deadlock
    .with_for_update()
)

CHANGE = (
    update(job)
    .where(job.c.id == bindparam("job_id"))
    .values(
        state=bindparam("new_state"),
        priority=bindparam("new_priority"),
        last_updated=bindparam("new_last_updated"),
        timeout_time=bindparam("new_timeout_time"),
    )
)
CHANGE_CONTENT = (
    update(job).where(job.c.id == bindparam("job_id")).values(content=bindparam("new_content"))
)
REMOVE = delete(job).where(job.c.id.in_(bindparam("job_ids", expanding=True)))


def _chunk_of(chosen: Select[tuple[int]]) -> Any:
    return job.c.id.in_(chosen.limit(_limit).scalar_subquery())


def _of_each_queue() -> Select[tuple[int]]:
    """The ids of jobs, beside the queue that each is in, queue by queue.

    `+ 0` keeps SQLite from walking all jobs and looking up their queues instead.
    """
    return select(job.c.id).select_from(queue).join(job, job.c.queue_id == queue.c.id + 0)


# Queued jobs past their timeout_time, deleted.
EXPIRE = (
    delete(job)
    .where(_chunk_of(select(job.c.id).where(in_state(QUEUED), job.c.timeout_time < _now)))
    .returning(job.c.queue_id)
)

# Jobs in progress past their queue's window, failed as of the end of the window.
FAIL = (
    update(job)
    .where(
        _chunk_of(
            _of_each_queue().where(
                not_queued, in_state(INPROGRESS), job.c.last_updated < _now - queue.c.window
            )
        )
    )
    .values(
        state=FAILED,
        last_updated=job.c.last_updated
        + select(queue.c.window).where(queue.c.id == job.c.queue_id).scalar_subquery(),
    )
    .returning(job.c.queue_id)
)


def _prune(state: int) -> Any:
    finished = _of_each_queue().where(
        not_queued, in_state(state), job.c.last_updated < _now - queue.c.keep
    )
    return delete(job).where(_chunk_of(finished)).returning(job.c.queue_id)


# Finished jobs past their queue's keep time, deleted.
PRUNE = {"complete": _prune(COMPLETE), "failed": _prune(FAILED)}

# Jobs of a removed queue, deleted.
PURGE = (
    delete(job)
    .where(_chunk_of(select(job.c.id).where(job.c.queue_id == bindparam("of_queue"))))
    .returning(job.c.id)
)
