"""Queues administered over HTTP: looked at, made, changed, paused, purged, deleted."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection

from jobengine.config.settings import Settings
from jobengine.domain.audit import Act, Actor
from jobengine.domain.clock import Clock
from jobengine.domain.errors import Conflict
from jobengine.domain.job import State
from jobengine.domain.queue import Queue, Right
from jobengine.engine.duties.duty import CHUNK
from jobengine.engine.queue_report import QueueReport, QueueReports
from jobengine.engine.queues import Queues, times_of, unknown_queue
from jobengine.store.database import Database
from jobengine.store.reads import Reads
from jobengine.store.tables import depths, sweeps
from jobengine.store.tables import queues as store
from jobengine.store.tables.audit import record
from jobengine.store.tables.models import CODE_OF
from jobengine.store.tables.tally import Tally
from jobengine.store.writing.operations import Sweep, Task
from jobengine.store.writing.writer import Writer


class QueueDraft(msgspec.Struct, frozen=True):
    """A queue to make: who may read and write it, and what it has of its own."""

    read: list[str] = []
    write: list[str] = []
    job_keep_minutes: int | None = None
    job_timeout_minutes: int | None = None
    max_jobs: int | None = None


T = TypeVar("T")


class Store(NamedTuple):
    """What a change goes through."""

    writer: Writer
    reads: Reads
    database: Database
    clock: Clock


class Rights(Protocol):
    """Knows who administers queues."""

    def administers(self, name: str) -> bool:
        """Whether the one of that name does."""

    def authorise_admin(self, name: str) -> None:
        """Raises Forbidden where the one of that name does not."""


class QueueAdmin:
    """What admins do with queues.

    Every method that changes something raises Forbidden, UnknownQueue and Unavailable, and
    returns only when what it did is on disk, an entry in the audit trail with it.
    """

    def __init__(
        self,
        store: Store,
        queues: Queues,
        rights: Rights,
        settings: Callable[[], Settings],
        config: Path,
    ) -> None:
        """`rights` says who administers; `settings` gives those in force, which `config` holds."""
        self._store = store
        self._queues = queues
        self._rights = rights
        self._settings = settings
        self._config = config
        self._reports = QueueReports(store.reads, store.clock)

    def all(self, service: str) -> list[QueueReport]:
        """The queues that the service may see: all where it is an admin, else those it uses."""
        seen = [
            queue
            for queue in self._queues.all()
            if self._rights.administers(service) or queue.allows(service, Right.EITHER)
        ]
        return self._reports.of(sorted(seen, key=lambda queue: queue.name))

    def get(self, service: str, name: str) -> QueueReport:
        """A queue that the service may see. Raises UnknownQueue and Forbidden."""
        if self._rights.administers(service):
            queue = self._queues.get(name)
        else:
            queue = self._queues.authorise(service, name, Right.EITHER)
        return self._reports.of([queue])[0]

    def authorise(self, actor: Actor) -> None:
        """Lets an admin pass: asked before the body of a call is read. Raises Forbidden."""
        self._rights.authorise_admin(actor.name)

    def put(self, actor: Actor, name: str, draft: QueueDraft) -> tuple[QueueReport, bool]:
        """Makes the queue what the draft says; whether it is new.

        Raises Conflict where it is the config's.
        """
        self._rights.authorise_admin(actor.name)
        want = self._wanted(name, draft)

        def put(connection: Connection) -> bool:
            row = store.find(connection, name)
            if row is not None and row.from_config:
                raise self._of_config(name)
            store.put(connection, want, row)
            action = "queue.created" if row is None else "queue.changed"
            self._record(connection, Act(actor, action, name, msgspec.to_builtins(draft)))
            return row is None

        new, queue = self._change(name, put)
        return self._report(queue), new

    def delete(self, actor: Actor, name: str) -> None:
        """Deletes the queue with its jobs.

        Raises Conflict where it is the config's, or holds jobs that the config protects.
        """
        self._rights.authorise_admin(actor.name)

        def delete(connection: Connection) -> None:
            row = store.find(connection, name)
            if row is None:
                raise unknown_queue(name)
            if row.from_config:
                raise self._of_config(name)
            jobs = depths.held(connection, row.id)
            if jobs and self._settings().protect_nonempty:
                raise Conflict(
                    f"the queue {name!r} holds {jobs} job(s), which protect_nonempty in the "
                    "config keeps: purge it first"
                )
            store.remove(connection, row.id, self._store.clock.now())
            self._record(connection, Act(actor, "queue.deleted", name, {"jobs": jobs}))

        self._change(name, delete)

    def pause(self, actor: Actor, name: str, *, paused: bool) -> QueueReport:
        """Has the queue hand out no jobs, or do so again; it takes jobs in either case."""
        self._rights.authorise_admin(actor.name)

        def pause(connection: Connection) -> int:
            row = store.find(connection, name)
            if row is None:
                raise unknown_queue(name)
            if row.paused != paused:
                store.pause(connection, row.id, paused=paused)
                action = "queue.paused" if paused else "queue.resumed"
                self._record(connection, Act(actor, action, name))
                if not paused:
                    self._store.database.announce_jobs(connection, [row.id])
            return int(row.id)

        queue_id, queue = self._change(name, pause)
        if not paused:
            self._store.writer.wake([queue_id])
        return self._report(queue)

    def purge(self, actor: Actor, name: str, state: State | None) -> int:
        """Deletes the queue's jobs, those in a state or all, in chunks; how many they were.

        Those that are created meanwhile stay. The trail has an entry for its beginning and
        one for its end.
        """
        self._rights.authorise_admin(actor.name)
        queue = self._queues.get(name)
        last = self._store.reads.ceiling()
        code = None if state is None else CODE_OF[state]
        detail = {"state": None if state is None else state.value}
        begun = Act(actor, "queue.purge", name, detail)

        def chunk(connection: Connection, tally: Tally) -> int:
            if not deleted:
                self._record(connection, begun)
            return sweeps.purge(connection, tally, queue.id, code, last, CHUNK)

        deleted = 0
        while gone := self._store.writer.submit(Sweep(chunk)):
            deleted += gone
        ended = Act(actor, "queue.purged", name, {**detail, "jobs": deleted})
        self._store.writer.submit(Task(lambda connection: self._record(connection, ended)))
        return deleted

    def _wanted(self, name: str, draft: QueueDraft) -> store.WantedQueue:
        times = times_of(self._settings())
        window, keep = _seconds(draft.job_timeout_minutes), _seconds(draft.job_keep_minutes)
        return store.WantedQueue(
            name,
            frozenset(draft.read),
            frozenset(draft.write),
            window=times.window if window is None else window,
            keep=times.keep if keep is None else keep,
            max_jobs=draft.max_jobs,
            from_config=False,
            own_window=window,
            own_keep=keep,
        )

    def _change(self, name: str, run: Callable[[Connection], T]) -> tuple[T, Queue | None]:
        def alone(connection: Connection) -> T:
            self._store.database.lock_shared(connection)
            return run(connection)

        return self._queues.change(self._store.writer, name, alone)

    def _report(self, queue: Queue | None) -> QueueReport:
        if queue is None:
            raise LookupError("a queue that was put or paused is not there")
        return self._reports.of([queue])[0]

    def _record(self, connection: Connection, act: Act) -> None:
        self._store.database.lock_shared(connection)  # in one order with the trail's end
        record(connection, self._store.database.contents, [act], self._store.clock.now())

    def _of_config(self, name: str) -> Conflict:
        return Conflict(f"the queue {name!r} belongs to the config: edit it in {self._config}")


def _seconds(minutes: int | None) -> int | None:
    return None if minutes is None else minutes * 60
