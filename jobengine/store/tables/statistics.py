"""The table of statistics: added to by minute, thinned to hours, and read."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, tuple_
from sqlalchemy.dialects.postgresql import insert  # in words that SQLite has, too

from jobengine.store.tables import depths
from jobengine.store.tables.models import COUNTS, DEPTHS, STATE_OF, statistic
from jobengine.store.tables.prepared import Prepared
from jobengine.store.tables.tally import Totals

MINUTE, HOUR = 60, 3600

_KEY = ("queue_id", "step", "time")
_NAMES = (*_KEY, *COUNTS, *DEPTHS)
_STATES = [STATE_OF[code] for code in sorted(STATE_OF)]
_row = insert(statistic).values({name: bindparam(name) for name in _NAMES})
# Adds, since other servers write the same rows.
_ADD = Prepared(
    _row.on_conflict_do_update(
        index_elements=_KEY,
        set_={name: statistic.c[name] + _row.excluded[name] for name in COUNTS}
        | {name: _row.excluded[name] for name in DEPTHS},
    ),
    order=_NAMES,
)
_COPY = Prepared(_row.on_conflict_do_nothing(), order=_NAMES)
_key = tuple_(*(statistic.c[name] for name in _KEY))

# The key, the counts and the depths, in the order of the table.
Row = Sequence[int]


def write(connection: Connection, by_minute: Mapping[int, Totals]) -> None:
    """Adds sums by the time of their minute, those of queues that there are.

    The depths of a minute are those of now less what was done after it.
    """
    ids = {queue_id for totals in by_minute.values() for queue_id in totals.by_queue}
    held = depths.depths(connection, sorted(ids)) if ids else {}
    left = {id_: [held[id_][state] for state in _STATES] for id_ in ids & held.keys()}
    rows = []
    for minute in sorted(by_minute, reverse=True):
        for queue_id, totals in by_minute[minute].by_queue.items():
            if queue_id in left:
                counts, moved = totals[: len(COUNTS)], totals[len(COUNTS) :]
                rows.append((queue_id, MINUTE, minute, *counts, *left[queue_id]))
                left[queue_id] = [n - m for n, m in zip(left[queue_id], moved, strict=True)]
    _add(connection, rows)


def thin(connection: Connection, before: int, limit: int) -> int:
    """Adds up to `limit` minutes from before a time, the oldest first, to hours; how many."""
    minutes = _take(connection, MINUTE, before, limit)
    hours: dict[tuple[int, int], Row] = {}
    for queue_id, _, time, *values in minutes:
        hour = queue_id, time - time % HOUR
        counts = values[: len(COUNTS)]
        if hour in hours:
            counts = [n + m for n, m in zip(counts, hours[hour], strict=False)]
        hours[hour] = [*counts, *values[len(COUNTS) :]]
    _add(connection, [(id_, HOUR, hour, *values) for (id_, hour), values in hours.items()])
    return len(minutes)


def forget(connection: Connection, before: int, limit: int) -> int:
    """Deletes up to `limit` hours from before a time; how many."""
    return len(_take(connection, HOUR, before, limit))


def drop_queue(connection: Connection, queue_id: int) -> None:
    """Deletes all that there is of a queue."""
    connection.execute(delete(statistic).where(statistic.c.queue_id == queue_id))


def between(connection: Connection, queue_id: int, start: int, end: int) -> list[Row]:
    """The rows of a queue from a time on and before another, the oldest first."""
    chosen = select(statistic).where(
        statistic.c.queue_id == queue_id,
        statistic.c.step.in_((MINUTE, HOUR)),  # or the key could not be used
        statistic.c.time >= start,
        statistic.c.time < end,
    )
    rows = [tuple(row) for row in connection.execute(chosen)]
    return sorted(rows, key=lambda row: (row[2], row[1]))


def depth_before(connection: Connection, queue_id: int, time: int) -> Row | None:
    """The depths of a queue, by the numbers of the states, in its last row before a time."""
    found = []
    for step in (MINUTE, HOUR):
        last = (
            select(statistic.c.time, *(statistic.c[name] for name in DEPTHS))
            .where(
                statistic.c.queue_id == queue_id, statistic.c.step == step, statistic.c.time < time
            )
            .order_by(statistic.c.time.desc())
            .limit(1)
        )
        found += [tuple(row) for row in connection.execute(last)]
    return max(found)[1:] if found else None


def minutes_since(connection: Connection, start: int, names: Iterable[str]) -> list[Row]:
    """Of every queue and minute from a time on: the queue's id, the time, some of the counts."""
    columns = (statistic.c.queue_id, statistic.c.time, *(statistic.c[name] for name in names))
    chosen = select(*columns).where(statistic.c.step == MINUTE, statistic.c.time >= start)
    return [tuple(row) for row in connection.execute(chosen)]


def following(connection: Connection, key: Row, limit: int) -> list[Row]:
    """The rows that follow a key, in the order of their keys."""
    chosen = select(statistic).where(_key > tuple_(*key)).order_by(*_key.clauses).limit(limit)
    return [tuple(row) for row in connection.execute(chosen)]


def copy(connection: Connection, rows: Sequence[Row]) -> None:
    """Inserts rows, but for those whose keys are there."""
    _COPY.many(connection, [tuple(row) for row in rows])


def _add(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Adds rows in one order for all, so that two servers cannot deadlock."""
    if rows:
        _ADD.many(connection, sorted(rows))


def _take(connection: Connection, step: int, before: int, limit: int) -> list[Row]:
    """Deletes the oldest rows of a step, and gives them, the oldest first."""
    chosen = (
        select(statistic)
        .where(statistic.c.step == step, statistic.c.time < before)
        .order_by(statistic.c.time)
        .limit(limit)
        .with_for_update()
    )
    rows: list[Row] = [tuple(row) for row in connection.execute(chosen)]
    keys = [tuple(row[: len(_KEY)]) for row in rows]
    if keys:
        _REMOVE.many(connection, keys)
    return rows


_REMOVE = Prepared(
    delete(statistic).where(*(statistic.c[name] == bindparam(f"of_{name}") for name in _KEY)),
    order=tuple(f"of_{name}" for name in _KEY),
)
