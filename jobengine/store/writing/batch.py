"""One batch: many operations, a few statements, one transaction.

None of the operations has been answered yet, so any order of them is as good as
the order in which they arrived; this one makes claims see what was created and
updated before them. Operations on one uid apply in the order of arrival.

Claims, updates and deletes all work alike: read the jobs locked, apply the rules of
the domain, write what came of it.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection

from jobengine.domain.errors import Conflict, NotFound, StoreFailed
from jobengine.store.contents import Contents
from jobengine.store.failures import concerns_all
from jobengine.store.tables import depths
from jobengine.store.tables.tally import Tally
from jobengine.store.writing.claims import claim_all
from jobengine.store.writing.creates import create
from jobengine.store.writing.operations import (
    Claim,
    Create,
    Delete,
    Operation,
    Sweep,
    Task,
    Update,
)
from jobengine.store.writing.touches import touch
from jobengine.store.writing.work import Work

_log = structlog.get_logger(component="writer")

# The claims that wait for a job in the queue of an id, the oldest first.
Waiting = Callable[[int], Sequence[Claim]]


def nobody(_queue_id: int) -> Sequence[Claim]:
    """No claim waits."""
    return ()


class Batch:
    """Runs operations inside a connection's transaction, as of `now`."""

    def __init__(
        self, connection: Connection, contents: Contents, now: int, waiting: Waiting = nobody
    ) -> None:
        """`contents` is how a job's content lies in the table; `waiting` who wants jobs."""
        self._work = Work(connection, contents, now)
        self._waiting = waiting

    @property
    def tally(self) -> Tally:
        """What the last run did; good once it is committed."""
        return self._work.tally

    def run(
        self, operations: Sequence[Operation[Any]], woken: Collection[int] = ()
    ) -> Collection[int]:
        """Runs the operations and settles or refuses each.

        Claims that wait are settled too, where jobs have come for them: to a queue that
        the operations fed, or to one that is `woken`. Gives the ids of the queues that
        were fed. Raises whatever a statement raises; then the whole batch is to be
        undone, and run again by `run_each`.
        """
        self.tally.clear()
        operations = [o for o in operations if o.permitted()]
        fed = self._write_jobs(operations)
        waiters = [claim for queue_id in {*fed, *woken} for claim in self._waiting(queue_id)]
        claims = [o for o in operations if isinstance(o, Claim)]
        claim_all(self._work, [*waiters, *claims])
        for operation in operations:
            if isinstance(operation, Task | Sweep):
                self._do(operation)
        depths.note(self._work.connection, self.tally.moves)
        return fed

    def run_each(
        self, operations: Sequence[Operation[Any]], woken: Collection[int] = ()
    ) -> Collection[int]:
        """Runs each operation alone in a savepoint, so that only the guilty fail.

        Those that a task is of are run with it.
        Raises an error that all of them would meet; then the batch is to be undone.
        """
        self.tally.clear()
        work, together = self._work, Tally()
        alone = Batch(work.connection, work.contents, work.now)
        work.careful = alone._work.careful = True
        for group in _groups(operations):
            savepoint = work.connection.begin_nested()
            try:
                alone.run(group)
            except Exception as error:
                savepoint.rollback()
                if concerns_all(error):
                    raise
                _log.exception("an operation failed", operation=type(group[0]).__name__)
                failure = StoreFailed("the database refused the change; nothing was changed")
                failure.__cause__ = error
                for operation in group:
                    operation.refuse(failure)
            else:
                savepoint.commit()
                together.add(alone.tally)
        fed = {o.queue.id for o in operations if isinstance(o, Create | Update)}
        claim_all(self._work, [claim for id_ in {*fed, *woken} for claim in self._waiting(id_)])
        depths.note(self._work.connection, self.tally.moves)
        self.tally.add(together)
        return fed

    def _do(self, task: Task[Any] | Sweep[Any]) -> None:
        try:
            if isinstance(task, Sweep):
                task.settle(task.run(self._work.connection, self.tally))
            else:
                task.settle(task.run(self._work.connection))
        except (NotFound, Conflict) as error:
            task.refuse(error)

    def _write_jobs(self, operations: Sequence[Operation[Any]]) -> Collection[int]:
        """Creates, updates and deletes; the ids of the queues that got queued jobs by it."""
        creates = [o for o in operations if isinstance(o, Create)]
        touches = [o for o in operations if isinstance(o, Update | Delete)]
        fed = {o.queue.id for o in creates}
        if creates:
            create(self._work, creates)
        if touches:
            fed |= touch(self._work, touches)
        return fed


def _groups(operations: Sequence[Operation[Any]]) -> Iterator[list[Operation[Any]]]:
    """The operations, each by itself or those together that are done together."""
    tasks = [o for o in operations if isinstance(o, Task)]
    members = {id(member) for task in tasks for member in task.of}
    for operation in operations:
        if id(operation) not in members:
            yield [*(operation.of if isinstance(operation, Task) else ()), operation]
