"""How many jobs each queue holds, by state; kept in step by all that moves jobs."""

from collections import Counter
from collections.abc import Collection, Sequence

from sqlalchemy import (
    Connection,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from jobengine.domain.job import State
from jobengine.store.tables.models import (
    COMPLETE,
    FAILED,
    INPROGRESS,
    QUEUED,
    STATE_OF,
    depth,
    job,
    queue,
)
from jobengine.store.tables.prepared import Prepared

# How many jobs of a queue, by its id, went from one state to another, by their numbers;
# None for a job that was not there before, or is not there any more.
Moves = Counter[tuple[int, int | None, int | None]]

# So many queues are looked up one by one.
_FEW = 100
_COLUMNS = {
    QUEUED: depth.c.queued,
    INPROGRESS: depth.c.inprogress,
    COMPLETE: depth.c.complete,
    FAILED: depth.c.failed,
}
_ALL = tuple(_COLUMNS.values())
_ADD = Prepared(
    update(depth)
    .where(depth.c.queue_id == bindparam("of_queue"))
    .values({column.name: column + bindparam(f"more_{column.name}") for column in _ALL}),
    order=(*(f"more_{column.name}" for column in _ALL), "of_queue"),
)
_BUSY = select(depth.c.queue_id).where(depth.c.inprogress > 0)
_UNFINISHED = Prepared(
    select(depth.c.queued + depth.c.inprogress).where(depth.c.queue_id == bindparam("of_queue"))
)


def note(connection: Connection, moves: Moves) -> None:
    """Notes the moves, queue by queue in one order for all: two servers cannot deadlock."""
    by_queue: dict[int, list[int]] = {}
    for (queue_id, before, after), jobs in moves.items():
        if jobs and before != after:
            more = by_queue.setdefault(queue_id, [0] * len(_ALL))
            if before is not None:
                more[before] -= jobs
            if after is not None:
                more[after] += jobs
    ids = sorted(by_queue)
    if ids and _ADD.many(connection, [(*by_queue[id_], id_) for id_ in ids]) != len(ids):
        _count_missing(connection)


def _count_missing(connection: Connection) -> None:
    """Counts the jobs of queues that nothing was noted of: an older version made them."""
    noted = exists(depth.c.queue_id).where(depth.c.queue_id == queue.c.id)
    in_each = [func.count(case((job.c.state == code, 1))) for code in _COLUMNS]
    counted = (
        select(queue.c.id, *in_each)
        .outerjoin(job, job.c.queue_id == queue.c.id)
        .where(~noted)
        .group_by(queue.c.id)
    )
    connection.execute(insert(depth).from_select([depth.c.queue_id, *_ALL], counted))


def add_queues(connection: Connection, queue_ids: Collection[int]) -> None:
    """Notes new queues, without jobs."""
    nothing = {column.name: 0 for column in _ALL}
    rows = [{"queue_id": queue_id, **nothing} for queue_id in queue_ids]
    if rows:
        connection.execute(insert(depth), rows)


def drop_queue(connection: Connection, queue_id: int) -> None:
    """Forgets a queue."""
    connection.execute(delete(depth).where(depth.c.queue_id == queue_id))


def in_progress(connection: Connection) -> frozenset[int]:
    """The ids of the queues that have jobs in progress."""
    return frozenset(connection.execute(_BUSY).scalars())


def unfinished(connection: Connection, queue_id: int) -> int:
    """How many jobs of the queue are queued or in progress."""
    with _UNFINISHED.cursor(connection, {"of_queue": queue_id}) as cursor:
        row = cursor.fetchone()
    if row is None:
        _count_missing(connection)
        return unfinished(connection, queue_id)
    return int(row[0])


def held(connection: Connection, queue_id: int) -> int:
    """How many jobs the queue holds, in any state."""
    total = sum(_ALL[1:], start=_ALL[0])
    found = select(total).where(depth.c.queue_id == queue_id)
    return int(connection.execute(found).scalar_one())


def by_number(connection: Connection, queue_id: int) -> tuple[int, ...]:
    """How many jobs the queue holds, by the numbers of the states."""
    held = depths(connection, [queue_id]).get(queue_id, {})
    return tuple(held.get(STATE_OF[code], 0) for code in sorted(STATE_OF))


def depths(connection: Connection, queue_ids: Sequence[int] = ()) -> dict[int, dict[State, int]]:
    """How many jobs queues hold, by their ids and states; all, where a few are not named."""
    chosen = select(depth.c.queue_id, *_ALL)
    if 0 < len(queue_ids) <= _FEW:
        chosen = chosen.where(depth.c.queue_id.in_(queue_ids))
    rows = connection.execute(chosen)
    states = [STATE_OF[code] for code in _COLUMNS]
    return {id_: dict(zip(states, counts, strict=True)) for id_, *counts in rows}
