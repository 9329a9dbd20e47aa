"""The statements of the write path and of the sweeps. Each takes a list.

Written once for SQLite and PostgreSQL: `with_for_update` renders nothing on
SQLite, where BEGIN IMMEDIATE already holds the lock.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Select,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from jobengine.store.tables.models import (
    COMPLETE,
    FAILED,
    INPROGRESS,
    QUEUED,
    STATE_OF,
    finished,
    in_state,
    job,
    queue,
)
from jobengine.store.tables.prepared import Prepared, PreparedList
from jobengine.store.tables.rows import BARE_COLUMNS, BRIEF_COLUMNS

_now = bindparam("now", type_=BigInteger)
# `+ 0`, or SQLite would plan the statement anew at each execution, for the value of the limit:
# a claim took 43 µs of which 40 were that.
LIMIT: Any = bindparam("limit", type_=BigInteger) + 0

_NEW_ROW = (
    "uid",
    "queue_id",
    "state",
    "priority",
    "created",
    "last_updated",
    "timeout_time",
    "valid_for",
    "content",
    "since",
    "creator",
    "claims",
    "claimed",
    "claimer",
    "changer",
    "trace",
)
INSERT = Prepared(
    insert(job).values({column: bindparam(column) for column in _NEW_ROW}), order=_NEW_ROW
)
# As INSERT, for many rows in one step of the driver, which hands over the GIL at each.
INSERT_ROWS = 50
_FLAT = tuple(f"{column}_{row}" for row in range(INSERT_ROWS) for column in _NEW_ROW)
INSERT_MANY = Prepared(
    insert(job).values(
        [
            {column: bindparam(f"{column}_{row}") for column in _NEW_ROW}
            for row in range(INSERT_ROWS)
        ]
    ),
    order=_FLAT,
)


# No queue while it is paused or deleted. Asked here and not of the Queue: another server may have
# changed it a moment ago. As a condition of its own, SQLite would try it on each job of the queue.
_handing_out = (
    select(queue.c.id)
    .where(queue.c.id == bindparam("of_queue"), ~queue.c.paused, queue.c.removed.is_(None))
    .scalar_subquery()
)


def _head(columns: Sequence[Any], *conditions: Any) -> Prepared:
    return Prepared(
        select(*columns)
        .where(
            job.c.queue_id == _handing_out,
            in_state(QUEUED),
            *conditions,
        )
        .order_by(job.c.priority.desc(), job.c.id)
        .limit(LIMIT)
        .with_for_update(skip_locked=True, of=job)
    )


# The head of a queue, locked, in queue order: what claims are dealt from. A bare one reads no
# contents.
HEAD, BARE_HEAD = _head(BRIEF_COLUMNS), _head(BARE_COLUMNS)
# As HEAD, of one priority and from an id on.
_at = (job.c.priority == bindparam("of_priority"), job.c.id >= bindparam("first"))
HEAD_AT, BARE_HEAD_AT = _head(BRIEF_COLUMNS, *_at), _head(BARE_COLUMNS, *_at)


# The jobs that updates and deletes touch, locked, as they lie in the table.
def _touched(columns: Sequence[Any]) -> PreparedList:
    return PreparedList(
        lambda uids: (
            select(*columns)
            .where(job.c.uid.in_(uids))
            .order_by(job.c.uid)  # one order for all, so that two batches cannot deadlock
            .with_for_update()
        )
    )


TOUCHED, BARE_TOUCHED = _touched(BRIEF_COLUMNS), _touched(BARE_COLUMNS)

# A content that was too long to be read with its job, and how many bytes it has.
CONTENT_SIZE = Prepared(select(func.length(job.c.content)).where(job.c.id == bindparam("job_id")))
CONTENT = Prepared(select(job.c.content).where(job.c.id == bindparam("job_id")))

CHANGE = Prepared(
    update(job)
    .where(job.c.id == bindparam("job_id"))
    .values(priority=bindparam("new_priority"), timeout_time=bindparam("new_timeout_time")),
    order=("new_priority", "new_timeout_time", "job_id"),
)
# Jobs that go to one state at one time, by one service.
MOVE = PreparedList(
    lambda ids: (
        update(job)
        .where(job.c.id.in_(ids))
        .values(
            state=bindparam("new_state"),
            last_updated=bindparam("new_last_updated"),
            since=bindparam("new_since"),
            changer=bindparam("by"),
        )
    ),
    order=("new_state", "new_last_updated", "new_since", "by"),
)
# As MOVE, for those that go in progress.
CLAIM = PreparedList(
    lambda ids: (
        update(job)
        .where(job.c.id.in_(ids))
        .values(
            state=literal_column(str(INPROGRESS)),
            last_updated=bindparam("new_last_updated"),
            since=bindparam("new_since"),
            claims=func.coalesce(job.c.claims, literal_column("0")) + literal_column("1"),
            claimed=bindparam("new_since"),
            claimer=bindparam("by"),
            changer=bindparam("by"),
        )
    ),
    order=("new_last_updated", "new_since", "new_since", "by", "by"),
)
# As MOVE, for those that stay in their state.
BEAT = PreparedList(
    lambda ids: (
        update(job).where(job.c.id.in_(ids)).values(last_updated=bindparam("new_last_updated"))
    ),
    order=("new_last_updated",),
)
CHANGE_CONTENT = Prepared(
    update(job).where(job.c.id == bindparam("job_id")).values(content=bindparam("new_content")),
    order=("new_content", "job_id"),
)
REMOVE = PreparedList(lambda ids: delete(job).where(job.c.id.in_(ids)))


def _chunk_of(chosen: Select[tuple[int]]) -> Any:
    """The jobs chosen, up to a limit, locked as they are chosen.

    Without the lock, PostgreSQL would wait for a job that another transaction is changing,
    and then touch it without another look at the conditions that chose it.
    """
    locked = chosen.limit(LIMIT).with_for_update(of=job, skip_locked=True)
    return job.c.id.in_(locked.scalar_subquery())


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

# Up to so many queued jobs of a queue and a priority, from an id on: read in the index alone.
_stretch = (
    select(job.c.id, job.c.timeout_time)
    .where(
        job.c.queue_id == bindparam("of_queue"),
        in_state(QUEUED),
        job.c.priority == bindparam("of_priority"),
        job.c.id >= bindparam("first"),
    )
    .order_by(job.c.id)
    .limit(LIMIT)
    .subquery()
)
# How many those are, the last of them, and the first that has not expired.
STRETCH = Prepared(
    select(
        func.count(),
        func.max(_stretch.c.id),
        func.min(case((_stretch.c.timeout_time >= _now, _stretch.c.id))),
    )
)
# The next lower priority that a queue has queued jobs of.
PRIORITY_BELOW = Prepared(
    select(job.c.priority)
    .where(job.c.queue_id == bindparam("of_queue"), in_state(QUEUED))
    .where(job.c.priority < bindparam("of_priority"))
    .order_by(job.c.priority.desc())
    .limit(literal_column("1"))
)
# The expired among them, deleted. No other job is locked, since that would hide it from another
# server's claims.
EXPIRE_HEAD = (
    delete(job)
    .where(
        job.c.id.in_(
            select(job.c.id)
            .where(job.c.id.in_(select(_stretch.c.id).where(_stretch.c.timeout_time < _now)))
            .where(in_state(QUEUED), job.c.timeout_time < _now)
            .with_for_update(of=job, skip_locked=True)
        )
    )
    .returning(job.c.id)
)

# Jobs in progress, locked: their ids, last_updated and since when they are. Not those that
# another transaction is changing.
IN_PROGRESS = PreparedList(
    lambda ids: (
        select(job.c.id, job.c.last_updated, job.c.since)
        .where(in_state(INPROGRESS), job.c.id.in_(ids))
        .with_for_update(skip_locked=True)
    )
)

_window_end = job.c.last_updated + bindparam("window", type_=BigInteger)
# Jobs in progress past their queue's window, failed as of its end.
FAIL = PreparedList(
    lambda ids: (
        update(job)
        .where(job.c.id.in_(ids))
        .values(
            state=literal_column(str(FAILED)),
            last_updated=_window_end,
            since=_window_end,
            changer=literal_column("''"),
        )
    ),
    order=("window", "window"),
)


def _prune(state: int) -> Any:
    over = _of_each_queue().where(
        finished, in_state(state), job.c.last_updated < _now - queue.c.keep
    )
    return delete(job).where(_chunk_of(over)).returning(job.c.queue_id)


# Finished jobs past their queue's keep time, deleted.
PRUNE = {COMPLETE: _prune(COMPLETE), FAILED: _prune(FAILED)}


def _purge(state: int | None) -> Any:
    # `+ 0` keeps SQLite from walking the jobs of all queues in the order of their ids.
    until = job.c.id + 0 <= bindparam("last", type_=BigInteger)
    chosen = select(job.c.id).where(job.c.queue_id == bindparam("of_queue"), until)
    if state is not None:
        chosen = chosen.where(in_state(state))
    return delete(job).where(_chunk_of(chosen)).returning(job.c.state)


# Jobs of a queue, up to an id, deleted: those in a state, or whatever state they are in.
PURGE = {state: _purge(state) for state in (None, *STATE_OF)}
