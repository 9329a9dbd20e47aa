"""One batch: many operations, a few statements, one transaction.

None of the operations has been answered yet, so any order of them is as good as
the order in which they arrived; this one makes claims see what was created and
updated before them. Operations on one uid apply in the order of arrival.

Claims, updates and deletes all work alike: read the jobs locked, apply the rules of
the domain, write what came of it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
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
from jobengine.store.writing.submissions import Submission
from jobengine.store.writing.touches import touch
from jobengine.store.writing.walks import Place, Walks
from jobengine.store.writing.work import Work, always

_log = structlog.get_logger(component="writer")

# The claims that wait for a job in the queue of an id, the oldest first.
Waiting = Callable[[int], Sequence[Claim]]


def nobody(_queue_id: int) -> Sequence[Claim]:
    """No claim waits."""
    return ()


class Batch:
    """Runs operations inside a connection's transaction, as of `now`."""

    def __init__(
        self,
        connection: Connection,
        contents: Contents,
        now: int,
        waiting: Waiting = nobody,
        steady: Callable[[], bool] = always,
        walks: Walks | None = None,
    ) -> None:
        """`contents` is how a job's content lies in the table; `waiting` who wants jobs.

        `steady` says whether the time may be trusted to delete by; `walks` is where the
        claims of batches before came to.
        """
        self._work = Work(connection, contents, now, steady, walks)
        self._waiting = waiting

    @property
    def tally(self) -> Tally:
        """What the last run did; good once it is committed."""
        return self._work.tally

    @property
    def cut(self) -> Collection[int]:
        """The ids of the queues whose claims the next batch has to go on with."""
        return self._work.cut

    @property
    def walked(self) -> Mapping[int, Place | None]:
        """Where claims came to behind expired jobs, as `Walks` keeps it."""
        return self._work.walked

    def forget_walks_since(self, walked: Mapping[int, Place | None]) -> None:
        """Takes back where claims came to that are undone: what they dealt lies before it."""
        self._work.walked = dict(walked)

    def run(
        self, operations: Sequence[Operation[Any]], woken: Collection[int] = ()
    ) -> Collection[int]:
        """Runs the operations and settles or refuses each, or leaves a claim pending.

        Also serves parked claims on queues that the operations fed, and on those `woken`.
        Gives the ids of the queues that were fed. Raises whatever a statement raises; then
        the whole batch is to be undone, and run again by `run_each`.
        """
        self.tally.clear()
        operations = [o for o in operations if o.permitted()]
        fed = self._write_jobs(operations)
        self._work.walks.feed(fed)
        waiters = [claim for queue_id in {*fed, *woken} for claim in self._waiting(queue_id)]
        claims = [o for o in operations if isinstance(o, Claim)]
        claim_all(self._work, [*waiters, *claims])
        for operation in operations:
            if isinstance(operation, Task | Sweep):
                self._do(operation)
        depths.note(self._work.connection, self.tally.moves)
        return fed

    def run_each(
        self, submissions: Sequence[Submission], woken: Collection[int] = ()
    ) -> Collection[int]:
        """Runs each submission alone in a savepoint, so that only the guilty fail.

        A submission is done as a whole or not at all. The parked claims on one queue share
        a savepoint. Raises an error that all of them would meet; then the batch is to be
        undone.
        """
        self.tally.clear()
        work = self._work
        alone = Batch(work.connection, work.contents, work.now, nobody, work.steady, work.walks)
        work.careful = alone._work.careful = True
        for submission in submissions:
            self._run_alone(alone, submission)
        operations = [o for submission in submissions for o in submission.operations]
        fed = {o.queue.id for o in operations if isinstance(o, Create | Update)}
        for queue_id in {*fed, *woken}:
            waiters = self._waiting(queue_id)
            if waiters:
                self._run_alone(alone, Submission(waiters))
        work.cut.update(alone.cut)
        work.walked.update(alone.walked)
        return fed

    def _run_alone(self, alone: "Batch", submission: Submission) -> None:
        """Runs it by the batch `alone` in a savepoint; refuses it where a statement fails."""
        savepoint = self._work.connection.begin_nested()
        walked = dict(alone.walked)
        try:
            alone.run(submission.operations)
        except Exception as error:
            if concerns_all(error):
                raise  # SQLite may have undone the whole transaction, savepoints and all
            savepoint.rollback()
            alone.forget_walks_since(walked)
            failure = StoreFailed("the database refused the change; nothing was changed")
            failure.__cause__ = error
            submission.refuse(failure)
            kinds = sorted({type(operation).__name__ for operation in submission.operations})
            _log.exception("an operation failed", operation=", ".join(kinds))
        else:
            savepoint.commit()
            self.tally.add(alone.tally)

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
