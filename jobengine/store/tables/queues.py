"""The queue table: what the config asks for, made so, and removed queues taken away."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, inspect, select, update

from jobengine.domain.queue import Queue
from jobengine.store.tables import depths, statistics, sweeps
from jobengine.store.tables.models import queue
from jobengine.store.tables.tally import Tally

# What a plan shows of a change, and what a reconcile changes.
SHOWN = ("readers", "writers", "window", "keep", "max_jobs")
_COLUMNS = (*SHOWN, "from_config", "own_window", "own_keep")
# The last id that any job can have.
LAST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class WantedQueue:
    """A queue as it should be. `window` and `keep` in seconds, as in Queue.

    One that is not `from_config` has the `own` times in seconds; None for those of the config.
    """

    name: str
    readers: frozenset[str]
    writers: frozenset[str]
    window: int
    keep: int
    max_jobs: int | None = None
    from_config: bool = True
    own_window: int | None = None
    own_keep: int | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """What the config gives every queue that has none of its own, in seconds."""

    window: int
    keep: int


@dataclass(slots=True)
class Reconciled:
    """What a reconcile did, by the names of the queues, and the queues there are now."""

    queues: list[Queue] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    # Made over HTTP before, and from now on the config's.
    taken_over: list[str] = field(default_factory=list)
    # The jobs in queues that were to be removed and are protected: then nothing was done.
    refused: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Planned:
    """What a reconcile would do, by the names of the queues."""

    added: list[str] = field(default_factory=list)
    # What would be another, as the columns are now and as they would be.
    changed: dict[str, dict[str, tuple[object, object]]] = field(default_factory=dict)
    # With the number of jobs that would be lost.
    removed: dict[str, int] = field(default_factory=dict)
    taken_over: list[str] = field(default_factory=list)


def plan(connection: Connection, wanted: Iterable[WantedQueue], times: Times) -> Planned:
    """What `reconcile` would do."""
    planned = Planned()
    present = _present(connection)
    for want in [*wanted, *_others(present, wanted, times)]:
        row = present.pop(want.name, None)
        if row is None:
            planned.added.append(want.name)
            continue
        if want.from_config and not row.from_config:
            planned.taken_over.append(want.name)
        now, then = _values_of(row), _values(want)
        different = {key: (now[key], then[key]) for key in SHOWN if now[key] != then[key]}
        if different:
            planned.changed[want.name] = different
    planned.removed = {name: depths.held(connection, row.id) for name, row in present.items()}
    return planned


def count_queues(connection: Connection, *, of_config: bool) -> int:
    """How many queues there are, or of the config alone; 0 before the first migration."""
    if not inspect(connection).has_table(queue.name):
        return 0
    columns = {column["name"] for column in inspect(connection).get_columns(queue.name)}
    counted = select(func.count()).select_from(queue).where(queue.c.removed.is_(None))
    # It is counted before the migrations, too: then all are the config's.
    if of_config and queue.c.from_config.name in columns:
        counted = counted.where(queue.c.from_config)
    return connection.execute(counted).scalar_one()


def reconcile(
    connection: Connection,
    wanted: Collection[WantedQueue],
    times: Times,
    now: int,
    *,
    protect: bool = False,
) -> Reconciled:
    """Makes the table hold just the wanted queues, and those that were made over HTTP.

    A queue that is not wanted is only marked, which frees its name at once; its jobs
    are out of sight from then on, and purged in chunks (`purge`). Where it still has some
    and they are to be protected, nothing is done.
    """
    done = Reconciled()
    present = _present(connection)
    all_wanted = [*wanted, *_others(present, wanted, times)]
    if protect:
        unwanted = present.keys() - {want.name for want in all_wanted}
        counts = {name: depths.held(connection, present[name].id) for name in sorted(unwanted)}
        done.refused = {name: jobs for name, jobs in counts.items() if jobs}
        if done.refused:
            return done
    new = [want for want in all_wanted if want.name not in present]
    _add(connection, new)
    done.added = [want.name for want in new]
    for want in all_wanted:
        row = present.pop(want.name, None)
        if row is None:
            continue
        put(connection, want, row)
        if want.from_config and not row.from_config:
            done.taken_over.append(want.name)
        elif _values(want) != _values_of(row):
            done.changed.append(want.name)
    for name, row in present.items():
        remove(connection, row.id, now)
        done.removed.append(name)
    done.queues = present_queues(connection)
    return done


def _others(
    present: Mapping[str, Row[Any]], wanted: Iterable[WantedQueue], times: Times
) -> list[WantedQueue]:
    """The queues made over HTTP that the config does not name, with its times."""
    named = {want.name for want in wanted}
    return [
        WantedQueue(
            name,
            *_rights(row),
            window=times.window if row.own_window is None else row.own_window,
            keep=times.keep if row.own_keep is None else row.own_keep,
            max_jobs=row.max_jobs,
            from_config=False,
            own_window=row.own_window,
            own_keep=row.own_keep,
        )
        for name, row in present.items()
        if not row.from_config and name not in named
    ]


def find(connection: Connection, name: str) -> Row[Any] | None:
    """The row of a queue, but for those that are removed."""
    named = select(queue).where(queue.c.removed.is_(None), queue.c.name == name)
    return connection.execute(named).one_or_none()


def put(connection: Connection, want: WantedQueue, row: Row[Any] | None) -> None:
    """Makes the queue, or the row that there is, what is wanted."""
    if row is None:
        _add(connection, [want])
    elif (values := _values(want)) != _values_of(row):
        connection.execute(update(queue).where(queue.c.id == row.id).values(values))


def _add(connection: Connection, wanted: Collection[WantedQueue]) -> None:
    rows = [{"name": want.name, **_values(want)} for want in wanted]
    if rows:
        made = connection.execute(insert(queue).returning(queue.c.id), rows)
        depths.add_queues(connection, made.scalars().all())


def remove(connection: Connection, queue_id: int, now: int) -> None:
    """Marks a queue as removed; its jobs are purged later."""
    connection.execute(update(queue).where(queue.c.id == queue_id).values(removed=now))


def pause(connection: Connection, queue_id: int, *, paused: bool) -> None:
    """Has the queue hand out no jobs, or do so again."""
    connection.execute(update(queue).where(queue.c.id == queue_id).values(paused=paused))


def present_queues(connection: Connection) -> list[Queue]:
    """The queues that there are, but for those that are removed."""
    return [queue_of(row) for row in _present(connection).values()]


def queue_of(row: Row[Any]) -> Queue:
    """The queue in a row of the table."""
    return Queue(
        row.id,
        row.name,
        *_rights(row),
        row.window,
        row.keep,
        row.max_jobs,
        row.paused,
        row.from_config,
    )


def _present(connection: Connection) -> dict[str, Row[Any]]:
    rows = connection.execute(select(queue).where(queue.c.removed.is_(None)).order_by(queue.c.name))
    return {row.name: row for row in rows}


def removed_queues(connection: Connection) -> list[tuple[int, str]]:
    """The ids and names of the queues that are removed and not yet purged."""
    rows = connection.execute(select(queue.c.id, queue.c.name).where(queue.c.removed.is_not(None)))
    return [(row.id, row.name) for row in rows]


def purge(connection: Connection, tally: Tally, queue_id: int, limit: int) -> int:
    """Deletes up to `limit` jobs of a removed queue; where there are none left, the queue.

    Gives the number of jobs deleted.
    """
    gone = sweeps.purge(connection, tally, queue_id, None, LAST, limit)
    if not gone:
        statistics.drop_queue(connection, queue_id)
        depths.drop_queue(connection, queue_id)
        connection.execute(
            delete(queue).where(queue.c.id == queue_id, queue.c.removed.is_not(None))
        )
    return gone


def _values(want: WantedQueue) -> dict[str, object]:
    return {
        "readers": json.dumps(sorted(want.readers)),
        "writers": json.dumps(sorted(want.writers)),
        "window": want.window,
        "keep": want.keep,
        "max_jobs": want.max_jobs,
        "from_config": want.from_config,
        "own_window": want.own_window,
        "own_keep": want.own_keep,
    }


def _values_of(row: Row[Any]) -> dict[str, object]:
    return {key: getattr(row, key) for key in _COLUMNS}


def _rights(row: Row[Any]) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(json.loads(row.readers)), frozenset(json.loads(row.writers))
