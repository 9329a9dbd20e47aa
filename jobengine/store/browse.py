"""Jobs looked through in any order, by filters, at once whatever their number.

The claim index holds a queue's jobs by state, then priority, then id. A page is put together
from its ranges, each of one state and one priority, found by skipping from one priority to
the next: some hundred short steps at most, and no index beside those that claims need.
"""

from collections.abc import Iterator, Sequence
from heapq import merge
from typing import NamedTuple

import msgspec
from sqlalchemy import BigInteger, Connection, bindparam, func, null, select

from jobengine.domain.job import PRIORITY_MAX, PRIORITY_MIN
from jobengine.store.failures import or_bare
from jobengine.store.tables.models import STATE_OF, job
from jobengine.store.tables.prepared import Prepared, PreparedList
from jobengine.store.tables.rows import BARE_COLUMNS, BRIEF_COLUMNS, Stored, stored
from jobengine.store.tables.statements import LIMIT

LAST_ID = 2**63 - 1
# Ids read at once of a range.
_PIECE_MIN, _PIECE_MAX = 8, 512


class Scope(msgspec.Struct, frozen=True):
    """Which jobs of a queue: states by their numbers, priorities, ids; all bounds included.

    Those of `but_priority` are skipped, at no cost.
    """

    queue_id: int
    states: Sequence[int] = tuple(STATE_OF)
    highest: int = PRIORITY_MAX
    lowest: int = PRIORITY_MIN
    first: int = 0
    last: int = LAST_ID
    but_priority: int | None = None


class Place(NamedTuple):
    """Where a job stands in any order."""

    priority: int
    id: int


def _bind(name: str) -> object:
    return bindparam(name, type_=BigInteger)


_in_range = (
    job.c.queue_id == _bind("of_queue"),
    job.c.state == _bind("of_state"),
    job.c.priority == _bind("of_priority"),
    job.c.id >= _bind("first"),
    job.c.id <= _bind("last"),
)
_UPWARDS = Prepared(select(job.c.id).where(*_in_range).order_by(job.c.id).limit(LIMIT))
_DOWNWARDS = Prepared(select(job.c.id).where(*_in_range).order_by(job.c.id.desc()).limit(LIMIT))
_NEXT_PRIORITY = Prepared(
    select(func.max(job.c.priority)).where(
        job.c.queue_id == _bind("of_queue"),
        job.c.state == _bind("of_state"),
        job.c.priority <= _bind("highest"),
    )
)
# Without `since`, which nobody sees: it lies behind the content, and SQLite would read all of that.
_LISTED = [null().label("since") if each is job.c.since else each for each in BRIEF_COLUMNS]
_JOBS = PreparedList(lambda ids: select(*_LISTED).where(job.c.id.in_(ids)))
_BARE_JOBS = PreparedList(lambda ids: select(*BARE_COLUMNS).where(job.c.id.in_(ids)))
# Each by itself: SQLite walks the table for both at once.
_LOWEST, _HIGHEST = select(func.min(job.c.id)), select(func.max(job.c.id))
_CREATED = Prepared(
    select(job.c.id, job.c.created).where(job.c.id >= _bind("first")).order_by(job.c.id).limit(1)
)
_BY_UID = select(job.c.id, job.c.queue_id).where(
    job.c.uid >= bindparam("low"), job.c.uid <= bindparam("high")
)


def in_queue_order(connection: Connection, scope: Scope, after: Place | None) -> Iterator[Place]:
    """The jobs after a place, by priority, then id; read as far as they are taken."""
    highest = scope.highest if after is None else min(scope.highest, after.priority)
    priorities = _priorities(connection, msgspec.structs.replace(scope, highest=highest))
    for priority in sorted({priority for _, priority in priorities}, reverse=True):
        part = scope
        if after is not None and priority == after.priority:
            part = msgspec.structs.replace(scope, first=max(scope.first, after.id + 1))
        ranges = [_ids(connection, part, (state, priority)) for state in scope.states]
        for id_ in merge(*ranges):
            yield Place(priority, id_)


def by_age(
    connection: Connection, scope: Scope, after: Place | None, *, newest_first: bool
) -> Iterator[Place]:
    """The jobs after a place, in the order of their creation or against it; as above."""
    if after is not None and newest_first:
        scope = msgspec.structs.replace(scope, last=min(scope.last, after.id - 1))
    elif after is not None:
        scope = msgspec.structs.replace(scope, first=max(scope.first, after.id + 1))
    ranges = [
        _places(connection, scope, range_, newest_first=newest_first)
        for range_ in list(_priorities(connection, scope))
    ]
    return merge(*ranges, key=lambda place: place.id, reverse=newest_first)


def _places(
    connection: Connection, scope: Scope, range_: tuple[int, int], *, newest_first: bool
) -> Iterator[Place]:
    for id_ in _ids(connection, scope, range_, newest_first=newest_first):
        yield Place(range_[1], id_)


def _priorities(connection: Connection, scope: Scope) -> Iterator[tuple[int, int]]:
    """The states and priorities that there are jobs of."""
    for state in scope.states:
        highest = scope.highest
        while highest >= scope.lowest:
            binds = {"of_queue": scope.queue_id, "of_state": state, "highest": highest}
            priority = _NEXT_PRIORITY.value(connection, binds)
            if priority is None or priority < scope.lowest:
                break
            if priority != scope.but_priority:
                yield state, priority
            highest = priority - 1


def _ids(
    connection: Connection, scope: Scope, range_: tuple[int, int], *, newest_first: bool = False
) -> Iterator[int]:
    """The ids of a state and a priority, read in pieces, short ones first: few may be wanted."""
    statement = _DOWNWARDS if newest_first else _UPWARDS
    binds = {"of_queue": scope.queue_id, "of_state": range_[0], "of_priority": range_[1]}
    first, last, size = scope.first, scope.last, _PIECE_MIN
    while True:
        limits = {"first": first, "last": last, "limit": size}
        with statement.cursor(connection, {**binds, **limits}) as rows:
            ids = [id_ for (id_,) in rows]
        yield from ids
        if len(ids) < size:
            return
        first, last = (first, ids[-1] - 1) if newest_first else (ids[-1] + 1, last)
        size = min(2 * size, _PIECE_MAX)


def jobs(connection: Connection, places: Sequence[Place]) -> list[Stored]:
    """The jobs at the places, as they lie in the table; those that are gone are left out."""
    if not places:
        return []
    ids = [place.id for place in places]
    rows = or_bare(
        connection, lambda: _JOBS.rows(connection, ids), lambda: _BARE_JOBS.rows(connection, ids)
    )
    by_id = {row[0]: row for row in rows}
    return [stored(by_id[place.id]) for place in places if place.id in by_id]


def first_created_at(connection: Connection, time: int) -> int:
    """The id from which on jobs were created at the time or later, by bisection.

    Ids rise with the time of creation, but where the clock was set back.
    """
    low, high = (connection.execute(end).scalar_one() for end in (_LOWEST, _HIGHEST))
    if low is None or high is None:
        return 0
    while low <= high:
        middle = (low + high) // 2
        with _CREATED.cursor(connection, {"first": middle}) as cursor:
            id_, created = cursor.fetchone()
        if created >= time:
            high = middle - 1
        else:
            low = id_ + 1
    return int(low)


def by_uid(connection: Connection, low: bytes, high: bytes, limit: int) -> list[tuple[int, int]]:
    """The ids of up to `limit` jobs with uids from `low` to `high`, and of their queues."""
    rows = connection.execute(
        _BY_UID.order_by(job.c.uid.desc()).limit(limit), {"low": low, "high": high}
    )
    return [(row.id, row.queue_id) for row in rows]
