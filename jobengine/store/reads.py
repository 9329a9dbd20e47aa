"""What is read beside the writer: one job, and a list in chunks by key."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    BigInteger,
    Connection,
    bindparam,
    func,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.exc import SQLAlchemyError

from jobengine.domain.errors import StoreFailed
from jobengine.domain.job import PRIORITY_MAX, Job, State
from jobengine.domain.queue import Queue
from jobengine.store.contents import shown
from jobengine.store.database import Database
from jobengine.store.failures import FailureLog, or_bare
from jobengine.store.tables.depths import depths, in_progress
from jobengine.store.tables.models import COMPLETE, FAILED, INPROGRESS, QUEUED, in_state, job
from jobengine.store.tables.newest import newest_time
from jobengine.store.tables.oldest import oldest_queued
from jobengine.store.tables.queues import present_queues
from jobengine.store.tables.rows import (
    BARE_COLUMNS,
    BRIEF_COLUMNS,
    CONTENT_OF,
    JOB_COLUMNS,
    Stored,
    stored,
)
from jobengine.store.tables.statements import LIMIT

# What a read fails with; a MemoryError is SQLCipher's for a damaged page.
_FAILURES = (SQLAlchemyError, MemoryError)


class Key(NamedTuple):
    """A place in queue order: priority, highest first, then id."""

    priority: int
    id: int


HEAD = Key(PRIORITY_MAX + 1, 0)


class Slice(msgspec.Struct, frozen=True):
    """What part of a queue to read.

    `state` of None is all; jobs after the key `after`, up to and with the key `until`
    where there is one; `ceiling` is the last id to show, so that a list ends while
    jobs are being created.
    """

    queue: Queue
    state: State | None
    after: Key
    ceiling: int
    until: Key | None = None


class Reads:
    """Reads on connections that cannot write; none outlasts a call."""

    def __init__(self, database: Database) -> None:
        self._engine, self._damage = database.readers, database.damage
        self._contents = database.contents
        self._failures = FailureLog("the database could not be read")

    def get(self, queue: Queue, uid: bytes, now: int) -> Job | None:
        """The job, as time has made it by `now`; None where it is not in the queue."""
        with self.connection() as connection:
            row = or_bare(
                connection,
                lambda: connection.execute(_GET, {"uid": uid}).one_or_none(),
                lambda: connection.execute(_BARE_GET, {"uid": uid}).one_or_none(),
            )
        here = None if row is None else stored(row).at(queue, now)
        return None if here is None else self._job(here, here.content or b"")

    def ceiling(self) -> int:
        """The id of the newest job; 0 where there is none."""
        with self.connection() as connection:
            return connection.execute(_CEILING).scalar_one() or 0

    def newest_time(self) -> int | None:
        """The newest time that the database has seen; None where it has seen none."""
        with self.connection() as connection:
            return newest_time(connection)

    def keys(self, part: Slice, now: int, limit: int) -> list[Key]:
        """The keys of the first `limit` jobs of the slice."""
        with self.connection() as connection:
            rows = connection.execute(_keys(part.state), _binds(part, now, limit))
            return [Key(row.priority, row.id) for row in rows]

    def chunk(self, part: Slice, now: int, rows: int, size: int) -> tuple[list[Job], Key | None]:
        """The first jobs of the slice, and the key to go on after; None at its end.

        Stops at `rows` jobs, or when their contents have reached `size` bytes.
        """
        jobs: list[Job] = []
        last, count, read = part.after, 0, 0
        with self.connection() as connection:
            binds = _binds(part, now, rows)
            for row in or_bare(
                connection,
                lambda: connection.execute(_page(part.state), binds),
                lambda: connection.execute(_bare_page(part.state), binds),
            ):
                if part.until is not None and (-row.priority, row.id) > (
                    -part.until.priority,
                    part.until.id,
                ):
                    return jobs, None
                last, count = Key(row.priority, row.id), count + 1
                here = stored(row).at(part.queue, now)
                content = None if here is None else self.content(connection, here)
                if here is not None and content is not None:
                    jobs.append(self._job(here, content))
                    read += len(content)
                if last == part.until:
                    return jobs, None
                if read >= size:
                    return jobs, last
        return jobs, last if count == rows else None

    def overdue(self, queue: Queue, now: int, limit: int) -> list[int]:
        """The ids of up to `limit` jobs in progress past the queue's window."""
        binds = {"queue_id": queue.id, "before": now - queue.window, "limit": limit}
        with self.connection() as connection:
            return list(connection.execute(_OVERDUE, binds).scalars())

    def in_progress(self) -> frozenset[int]:
        """The ids of the queues that have jobs in progress."""
        with self.connection() as connection:
            return in_progress(connection)

    def oldest_in_progress(self, queue: Queue) -> int | None:
        """The earliest last_updated of the queue's jobs in progress; None without any."""
        with self.connection() as connection:
            oldest: int | None = connection.execute(_OLDEST, {"queue_id": queue.id}).scalar_one()
        return oldest

    def oldest_queued(self, queue_ids: Sequence[int]) -> dict[int, int]:
        """When the oldest queued job of each queue was created; queues without any are left out."""
        with self.connection() as connection:
            return oldest_queued(connection, queue_ids)

    def depths(self, queue_ids: Sequence[int]) -> dict[int, dict[State, int]]:
        """How many jobs each of the queues holds, by its id and their state in the table."""
        with self.connection() as connection:
            return depths(connection, queue_ids)

    def queues(self) -> list[Queue]:
        """The queues that there are, but for those that are removed."""
        with self.connection() as connection:
            return present_queues(connection)

    def content(self, connection: Connection, job: Stored) -> bytes | None:
        """What is stored of a job's content; None where the job is gone by now."""
        if job.content is not None:
            return job.content
        found: bytes | None = or_bare(
            connection,
            lambda: connection.execute(CONTENT_OF, {"id": job.id}).scalar_one_or_none(),
            lambda: b"",  # which does not open
        )
        return found

    def open(self, uid: bytes, content: bytes) -> bytes:
        """A job's content, from what is stored; DAMAGED where it is that."""
        return shown(self._contents, uid, lambda: content)

    def _job(self, here: Stored, content: bytes) -> Job:
        return here.as_job(self.open(here.uid, content))

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection that cannot write. Raises StoreFailed for what the database raises."""
        try:
            with self._engine.connect() as connection:
                try:
                    yield connection
                except _FAILURES:
                    # SQLCipher refuses all further reads on one that met a damaged page.
                    connection.invalidate()
                    raise
        except _FAILURES as error:
            self._failures.log(error)
            self._damage.note(error)
            raise StoreFailed("the database could not be read") from error


_GET = select(*JOB_COLUMNS).where(job.c.uid == bindparam("uid"))
_BARE_GET = select(*BARE_COLUMNS).where(job.c.uid == bindparam("uid"))
_CEILING = select(func.max(job.c.id))


def _bind(name: str) -> Any:
    return bindparam(name, type_=BigInteger)


# Both walk the jobs in progress: an index by last_updated would move at each heartbeat.
_in_progress = (job.c.queue_id == _bind("queue_id")) & in_state(INPROGRESS)
_OVERDUE = select(job.c.id).where(_in_progress, job.c.last_updated < _bind("before")).limit(LIMIT)
_OLDEST = select(func.min(job.c.last_updated)).where(_in_progress)


def _ranges(state: State | None) -> list[Any]:
    """The ranges of the claim index that hold the jobs in a state, as time has made them."""
    in_window = job.c.last_updated >= _bind("window_start")
    kept = job.c.last_updated >= _bind("keep_start")
    # Failed by their window, whether or not the sweep has been there.
    kept_overdue = job.c.last_updated >= _bind("overdue_start")
    ranges = {
        State.QUEUED: [in_state(QUEUED) & (job.c.timeout_time >= _bind("now"))],
        State.INPROGRESS: [in_state(INPROGRESS) & in_window],
        State.COMPLETE: [in_state(COMPLETE) & kept],
        State.FAILED: [
            in_state(FAILED) & kept,
            in_state(INPROGRESS) & ~in_window & kept_overdue,
        ],
    }
    if state is not None:
        return ranges[state]
    return [
        *ranges[State.QUEUED],
        in_state(INPROGRESS) & kept_overdue,
        *ranges[State.COMPLETE],
        in_state(FAILED) & kept,
    ]


def _merged(state: State | None, columns: tuple[Any, ...]) -> Any:
    """The slice in queue order: index ranges merged, nothing sorted.

    Each range comes as two, the rest of the key's priority and the priorities below
    it: written as one condition, SQLite would walk the priority from its beginning.
    """
    after_key = (
        (job.c.priority == _bind("priority")) & (job.c.id > _bind("id")),
        job.c.priority < _bind("priority"),
    )
    parts = [
        select(*columns).where(
            job.c.queue_id == _bind("queue_id"), in_range, after, job.c.id <= _bind("ceiling")
        )
        for in_range in _ranges(state)
        for after in after_key
    ]
    return (
        union_all(*parts)
        .order_by(literal_column("priority").desc(), literal_column("id"))
        .limit(LIMIT)
    )


@cache
def _page(state: State | None) -> Any:
    return _merged(state, BRIEF_COLUMNS)


@cache
def _bare_page(state: State | None) -> Any:
    return _merged(state, BARE_COLUMNS)


@cache
def _keys(state: State | None) -> Any:
    return _merged(state, (job.c.priority, job.c.id))


def _binds(part: Slice, now: int, limit: int) -> dict[str, int]:
    queue = part.queue
    return {
        "queue_id": queue.id,
        "now": now,
        "window_start": now - queue.window,
        "keep_start": now - queue.keep,
        "overdue_start": now - queue.window - queue.keep,
        "priority": part.after.priority,
        "id": part.after.id,
        "ceiling": part.ceiling,
        "limit": limit,
    }
