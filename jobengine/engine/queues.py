"""The queues there are, who may use them, and the reconcile with the config."""

import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from jobengine.config.settings import Settings
from jobengine.domain.audit import Act, Actor
from jobengine.domain.clock import Clock
from jobengine.domain.errors import ConfigRefused, Forbidden, OutcomeUnknown, UnknownQueue, cut
from jobengine.domain.queue import ANYONE, Queue, Right
from jobengine.store.database import Database
from jobengine.store.reads import Reads
from jobengine.store.tables import queues as store
from jobengine.store.tables.audit import record
from jobengine.store.writing.operations import Task
from jobengine.store.writing.writer import Writer

T = TypeVar("T")

# Who the audit trail names for what a config changes.
_CONFIG = Actor("the config")

_log = structlog.get_logger(component="queues")


class Queues:
    """The queues in force, by name.

    The mapping is replaced whole, never changed. What this server changes is in force before
    the writer's next batch, which deals jobs by it.
    """

    def __init__(self) -> None:
        self._by_name: Mapping[str, Queue] = {}
        # Those that have a right on any of them.
        self._services: frozenset[str] = frozenset()
        # As this server's own config has them.
        self._own: Mapping[str, Queue] = {}
        self.stale = False
        # Held from the look into the database until what was seen is in force.
        self._changing = threading.Lock()

    def authorise(self, service: str, name: str, right: Right) -> Queue:
        """The queue, for a service that has the right on it.

        Raises UnknownQueue and Forbidden.
        """
        queue = self.get(name)
        if not queue.allows(service, right):
            raise Forbidden(f"{service!r} has no {right.value} right on the queue {name!r}")
        return queue

    def get(self, name: str) -> Queue:
        """The queue. Raises UnknownQueue."""
        queue = self._by_name.get(name)
        if queue is None:
            raise unknown_queue(name)
        return queue

    def all(self) -> list[Queue]:
        """The queues."""
        return list(self._by_name.values())

    def know(self, service: str) -> bool:
        """Whether the service has a right on any queue."""
        return service in self._services or ANYONE in self._services

    def _put_in_force(self, queues: Mapping[str, Queue]) -> None:
        self._by_name = queues
        self._services = frozenset().union(*(q.readers | q.writers for q in queues.values()))

    @property
    def in_force(self) -> Mapping[str, Queue]:
        """The queues by name; another mapping after each change."""
        return self._by_name

    def names(self) -> dict[int, str]:
        """The names of the queues by their ids."""
        return {queue.id: queue.name for queue in self._by_name.values()}

    def reload(self, reads: Reads) -> None:
        """Takes over what the database has, each difference from this server's config logged.

        Raises StoreFailed, and is `stale` until it is called again with success.
        """
        with self._changing:
            self.stale = True
            found = {queue.name: queue for queue in reads.queues()}
            before = self._by_name
            self._put_in_force(found)
            self.stale = False
        for name in sorted(before.keys() | found.keys()):
            there, own = found.get(name), self._own.get(name)
            if there is not None and not there.from_config:
                continue
            if before.get(name) != there and _shape(there) != _shape(own):
                _log.warning(
                    "queue differs from this server's config, by that of a later start",
                    queue=name,
                    now="removed" if name not in found else "as there",
                )

    def reconcile(
        self, writer: Writer, settings: Settings, clock: Clock, database: Database
    ) -> None:
        """Makes the database and this object hold just the queues of the config.

        The config is king: a queue that is not in it is removed with its jobs, which
        a duty then purges in chunks. Each change is logged by name. Raises ConfigRefused
        where that would delete jobs that the config protects; then nothing is changed.
        """
        wanted, times = wanted_queues(settings), times_of(settings)
        protect, now = settings.protect_nonempty, clock.now()

        def reconcile(connection: Connection) -> store.Reconciled:
            database.lock_shared(connection)
            done = store.reconcile(connection, wanted, times, now, protect=protect)
            record(connection, database.contents, _acts(done), now)
            return done

        def take_over(done: store.Reconciled) -> None:
            if not done.refused:
                self._put_in_force({queue.name: queue for queue in done.queues})
                self._own = {queue.name: queue for queue in done.queues if queue.from_config}

        done = self._submit(writer, Task(reconcile, then=take_over))
        if done.refused:
            mistakes = [_protected(*each) for each in done.refused.items()]
            raise ConfigRefused("the config", mistakes)
        _tell(done)

    def change(
        self, writer: Writer, name: str, run: Callable[[Connection], T]
    ) -> tuple[T, Queue | None]:
        """Has something done to the queue of a name; gives what that gave, and the queue."""

        def change(connection: Connection) -> tuple[T, Queue | None]:
            outcome = run(connection)
            row = store.find(connection, name)
            return outcome, None if row is None else store.queue_of(row)

        def take_over(done: tuple[T, Queue | None]) -> None:
            others = {queue.name: queue for queue in self.all() if queue.name != name}
            there = done[1]
            self._put_in_force(others if there is None else {**others, name: there})

        return self._submit(writer, Task(change, then=take_over))

    def _submit(self, writer: Writer, task: Task[T]) -> T:
        with self._changing:
            try:
                return writer.submit(task)
            except OutcomeUnknown:
                self.stale = True  # a duty reads what came of it
                raise


def unknown_queue(name: str) -> UnknownQueue:
    """There is no queue of that name."""
    return UnknownQueue(f"there is no queue {cut(name)!r}")


def _tell(done: store.Reconciled) -> None:
    """Logs what a reconcile did."""
    for name in done.added:
        _log.info("queue added", queue=name)
    for name in done.changed:
        _log.info("queue changed", queue=name)
    for name in done.taken_over:
        _log.warning("queue made over HTTP is the config's from now on", queue=name)
    for name in done.removed:
        _log.warning("queue removed, since the config no longer has it", queue=name)
    _log.info("queues in force", count=len(done.queues))


def _acts(done: store.Reconciled) -> list[Act]:
    """What a reconcile did, for the audit trail."""
    names = {
        "queue.created": done.added,
        "queue.changed": done.changed,
        "queue.taken_over": done.taken_over,
        "queue.deleted": done.removed,
    }
    return [Act(_CONFIG, action, name) for action, each in names.items() for name in each]


def _shape(queue: Queue | None) -> tuple[object, ...] | None:
    """What a config can say of a queue."""
    if queue is None:
        return None
    return queue.readers, queue.writers, queue.window, queue.keep, queue.max_jobs


def wanted_queues(settings: Settings) -> list[store.WantedQueue]:
    """The queues that the settings ask for."""
    return [
        store.WantedQueue(
            name=name,
            readers=queue.readers,
            writers=queue.writers,
            window=_minutes(queue.job_timeout_minutes, settings.job_timeout_minutes) * 60,
            keep=_minutes(queue.job_keep_minutes, settings.job_keep_minutes) * 60,
            max_jobs=queue.max_jobs,
        )
        for name, queue in (settings.queues or {}).items()
    ]


def times_of(settings: Settings) -> store.Times:
    """The times that queues have which have none of their own."""
    return store.Times(settings.job_timeout_minutes * 60, settings.job_keep_minutes * 60)


def _minutes(own: int | None, of_all: int) -> int:
    return of_all if own is None else own


def _protected(name: str, jobs: int) -> str:
    return (
        f"queues.{name}: missing, but the queue holds {jobs} job(s), which protect_nonempty "
        "keeps: name it again, or empty it first"
    )
