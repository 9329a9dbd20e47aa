"""The queue table: what the config asks for, made so, and removed queues taken away."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection, Row, delete, func, insert, inspect, select, update

from jobengine.domain.queue import Queue
from jobengine.store import statements
from jobengine.store.models import job, queue


@dataclass(frozen=True, slots=True)
class WantedQueue:
    """A queue as it should be. `window` and `keep` in seconds, as in Queue."""

    name: str
    readers: frozenset[str]
    writers: frozenset[str]
    window: int
    keep: int


@dataclass(slots=True)
class Reconciled:
    """What a reconcile did, by the names of the queues, and the queues there are now."""

    queues: list[Queue] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
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


def plan(connection: Connection, wanted: Iterable[WantedQueue]) -> Planned:
    """What `reconcile` would do. Before the first migration, everything is to be added."""
    planned = Planned()
    present = {}
    if inspect(connection).has_table(queue.name):
        rows = connection.execute(select(queue).where(queue.c.removed.is_(None)))
        present = {row.name: row for row in rows}
    for want in wanted:
        row = present.pop(want.name, None)
        if row is None:
            planned.added.append(want.name)
            continue
        now, then = _values_of(row), _values(want)
        if now != then:
            planned.changed[want.name] = {
                key: (now[key], then[key]) for key in now if now[key] != then[key]
            }
    planned.removed = {name: count_jobs(connection, row.id) for name, row in present.items()}
    return planned


def count_queues(connection: Connection) -> int:
    """How many queues there are, those removed not counted; 0 before the first migration."""
    if not inspect(connection).has_table(queue.name):
        return 0
    return connection.execute(
        select(func.count()).select_from(queue).where(queue.c.removed.is_(None))
    ).scalar_one()


def reconcile(
    connection: Connection, wanted: Collection[WantedQueue], now: int, *, protect: bool = False
) -> Reconciled:
    """Makes the table hold just the wanted queues.

    A queue that is not wanted is only marked, which frees its name at once; its jobs
    are out of sight from then on, and purged in chunks (`purge`). Where it still has some
    and they are to be protected, nothing is done.
    """
    done = Reconciled()
    present = {
        row.name: row for row in connection.execute(select(queue).where(queue.c.removed.is_(None)))
    }
    if protect:
        unwanted = present.keys() - {want.name for want in wanted}
        counts = {name: count_jobs(connection, present[name].id) for name in sorted(unwanted)}
        done.refused = {name: jobs for name, jobs in counts.items() if jobs}
        if done.refused:
            return done
    for want in wanted:
        row = present.pop(want.name, None)
        if row is None:
            id_ = _insert(connection, want)
            done.added.append(want.name)
        else:
            id_ = row.id
            if _values(want) != _values_of(row):
                connection.execute(update(queue).where(queue.c.id == id_).values(_values(want)))
                done.changed.append(want.name)
        done.queues.append(
            Queue(id_, want.name, want.readers, want.writers, want.window, want.keep)
        )
    for name, row in present.items():
        connection.execute(update(queue).where(queue.c.id == row.id).values(removed=now))
        done.removed.append(name)
    return done


def present_queues(connection: Connection) -> list[Queue]:
    """The queues that there are, but for those that are removed."""
    rows = connection.execute(select(queue).where(queue.c.removed.is_(None)))
    return [
        Queue(
            row.id,
            row.name,
            frozenset(json.loads(row.readers)),
            frozenset(json.loads(row.writers)),
            row.window,
            row.keep,
        )
        for row in rows
    ]


def removed_queues(connection: Connection) -> list[tuple[int, str]]:
    """The ids and names of the queues that are removed and not yet purged."""
    rows = connection.execute(select(queue.c.id, queue.c.name).where(queue.c.removed.is_not(None)))
    return [(row.id, row.name) for row in rows]


def count_jobs(connection: Connection, queue_id: int) -> int:
    """How many jobs a queue holds, in any state. Walks its part of the claim index."""
    return connection.execute(
        select(func.count()).select_from(job).where(job.c.queue_id == queue_id)
    ).scalar_one()


def purge(connection: Connection, queue_id: int, limit: int) -> int:
    """Deletes up to `limit` jobs of a removed queue, and the queue with the last of them.

    Gives the number of jobs deleted.
    """
    gone = len(connection.execute(statements.PURGE, {"of_queue": queue_id, "limit": limit}).all())
    if gone < limit:
        connection.execute(
            delete(queue).where(queue.c.id == queue_id, queue.c.removed.is_not(None))
        )
    return gone


def _insert(connection: Connection, want: WantedQueue) -> int:
    row = {"name": want.name, **_values(want)}
    result = connection.execute(insert(queue).values(row).returning(queue.c.id))
    return int(result.scalar_one())


def _values(want: WantedQueue) -> dict[str, object]:
    return {
        "readers": json.dumps(sorted(want.readers)),
        "writers": json.dumps(sorted(want.writers)),
        "window": want.window,
        "keep": want.keep,
    }


def _values_of(row: Row[tuple[object, ...]]) -> dict[str, object]:
    return {key: getattr(row, key) for key in ("readers", "writers", "window", "keep")}
