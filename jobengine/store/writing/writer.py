"""The one thread that writes: group commit.

Callers hand it operations and wait. It takes all that are waiting, runs them as
one batch, commits once, and so fsyncs once, and then lets all the callers go. A
lone caller waits for nobody; under load one fsync serves many.
"""

import queue
import threading
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, TypeVar

import structlog
from sqlalchemy import Connection, text

from jobengine.domain.clock import Clock
from jobengine.domain.errors import OutcomeUnknown, Stopping, StoreFailed, Unavailable
from jobengine.store.database import Database
from jobengine.store.tables.tally import Totals
from jobengine.store.writing.commits import Commits
from jobengine.store.writing.latches import Latch, new_latch
from jobengine.store.writing.load import WriterLoad
from jobengine.store.writing.operations import Claim, Operation, Task
from jobengine.store.writing.parked import ParkedClaims
from jobengine.store.writing.unwritten import Unwritten

T = TypeVar("T")

# Submissions a batch: a bound on what one commit may have to undo and hold up.
_BATCH_MAX = 512

# How long a failed commit counts before it is looked whether the next one fails too.
_RETRY_SECONDS = 1.0

# A row that is always there, and that nobody else writes but a migration.
_TOUCH = text("UPDATE alembic_version SET version_num = version_num")

_log = structlog.get_logger(component="writer")


class _Submission(NamedTuple):
    """What a caller handed over together, and the latch that it waits for."""

    operations: Sequence[Operation[Any]]
    latch: Latch


class _Wake(NamedTuple):
    """Has waiting claims look again at the queues of these ids; None for every queue."""

    queue_ids: Collection[int] | None


class Writer:
    """Owns the write connection. Start it once; any thread may submit."""

    def __init__(
        self, database: Database, clock: Clock, statistics: Unwritten | None = None
    ) -> None:
        """`statistics` is what counts the work done here; a benchmark has another."""
        self._statistics = statistics or Unwritten()
        self._clock = clock
        # A None asks for the end, or, before that, lets go of the claims that wait.
        self._submissions: queue.SimpleQueue[_Submission | _Wake | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._stopped = threading.Event()
        self._parked = ParkedClaims()
        self._commits = Commits(database, clock, self._parked, self._statistics)
        # When a commit failed, by Clock.elapsed; None once one has succeeded.
        self._failed_at: float | None = None

    def start(self) -> None:
        """Begins to take operations."""
        self._thread.start()

    def submit(self, operation: Operation[T]) -> T:
        """Waits until the operation is committed, on disk, and gives its outcome.

        A claim that waits for a job may take its time. Raises what the operation was
        refused with; StoreFailed where the commit failed, in which case nothing of the
        batch was done; OutcomeUnknown where the database was lost at the commit;
        Stopping after `stop`.
        """
        self.submit_all([operation])
        return operation.outcome()

    def submit_all(self, operations: Sequence[Operation[Any]]) -> None:
        """Waits until the operations are committed, in one commit; each has its outcome.

        Raises Stopping after `stop`.
        """
        if self._stopped.is_set():
            raise Stopping("the server is shutting down")
        submission = _Submission(operations, new_latch())
        self._submissions.put(submission)
        if not self._thread.is_alive():
            self._refuse_submissions()  # it slipped in behind the end
        submission.latch.wait()

    def check(self) -> None:
        """Raises Unavailable where operations are not taken, or the last commit failed."""
        if self._stopped.is_set() or not self._thread.is_alive():
            raise Stopping("the server is shutting down")
        if self._failed_at is None:
            return
        if self._clock.elapsed() - self._failed_at < _RETRY_SECONDS:
            raise StoreFailed("the database could not commit when it was last asked to")
        self.submit(Task(_touch))  # without other calls, nothing else would find out

    @property
    def load(self) -> WriterLoad:
        """How large the batches were and how long their commits took."""
        return self._commits.load

    @property
    def totals(self) -> Totals:
        """What all batches did since the start; only ever grows."""
        return self._statistics.totals

    @property
    def waiting(self) -> int:
        """How many claims wait for a job."""
        return self._parked.count()

    def wake(self, queue_ids: Collection[int] | None) -> None:
        """Has the claims that wait look again, on queues that another server fed."""
        self._submissions.put(_Wake(queue_ids))

    def stop_waiting(self) -> None:
        """Lets go of the claims that wait for a job, and keeps no other waiting."""
        self._submissions.put(None)

    def stop(self) -> None:
        """Finishes what was submitted and closes the connection."""
        self._stopped.set()
        self._submissions.put(None)
        self._thread.join()
        self._refuse_submissions()

    def _run(self) -> None:
        while not self._stopped.is_set() or not self._submissions.empty():
            submissions, woken = self._take()
            if submissions or woken or self._seconds_until_write() == 0:
                self._work(submissions, woken)
            self._parked.look(self._clock.elapsed())
        self._parked.close()
        self._statistics.hurry()
        if self._seconds_until_write() == 0:
            self._work((), ())
        self._commits.renew()

    def _seconds_until_write(self) -> float | None:
        """How long statistics may still wait for a batch to write them; None where they may.

        While the database cannot commit they wait for the first batch that it can.
        """
        due = self._statistics.due_at()
        if due is None or self._failed_at is not None:
            return None
        return max(0.0, due - self._clock.elapsed())

    def _take(self) -> tuple[list[_Submission], Collection[int]]:
        """All that is waiting, or the first to come before there is something else to do.

        With it the ids of queues that claims wait for and another server fed.
        """
        taken: list[_Submission] = []
        woken: set[int] = set()
        look = self._parked.next_look()
        until_look = None if look is None else max(0.0, look - self._clock.elapsed())
        waits = [w for w in (until_look, self._seconds_until_write()) if w is not None]
        timeout = min(waits, default=None)
        try:
            submission = self._submissions.get(timeout=timeout)
            while True:
                if isinstance(submission, _Submission):
                    taken.append(submission)
                elif submission is None:
                    self._parked.close()
                else:
                    woken |= self._parked.waited_for(submission.queue_ids)
                if len(taken) == _BATCH_MAX:
                    return taken, woken
                submission = self._submissions.get_nowait()
        except queue.Empty:
            return taken, woken

    def _work(self, submissions: Sequence[_Submission], woken: Collection[int]) -> None:
        """Runs and commits a batch, and lets its callers go whatever comes of it."""
        operations = [o for submission in submissions for o in submission.operations]
        if self._failed_at is not None:
            # Only a write shows whether the database commits again.
            operations.append(Task(_touch))
        try:
            self._commits.commit(operations, woken)
            if self._failed_at is not None:
                _log.warning("the database commits again")
            self._failed_at = None
        except Exception as error:  # noqa: BLE001  logged, and told to every caller
            if self._failed_at is None:
                _log.exception("commit failed", operations=len(operations))
            self._failed_at = self._clock.elapsed()
            failure: Unavailable = (
                error
                if isinstance(error, OutcomeUnknown | StoreFailed)
                else StoreFailed("the database could not commit; nothing was changed")
            )
            failure.__cause__ = error.__cause__ if failure is error else error
            for operation in operations:
                operation.refuse(failure)
        finally:
            self._release(submissions)
            if self._failed_at is not None:
                self._commits.renew()

    def _release(self, submissions: Sequence[_Submission]) -> None:
        """Lets the callers go; parks the claims that found nothing and may wait."""
        for operations, latch in submissions:
            last = operations[-1]
            if isinstance(last, Claim) and self._parked.takes(last):
                self._parked.add(last, latch, self._clock.elapsed())
            else:
                if isinstance(last, Task):
                    self._put_in_force(last)
                latch.open()

    def _put_in_force(self, task: Task[Any]) -> None:
        """Has what the task changed go for the next batch, and for the claims that wait."""
        if task.then is not None and not task.refused:
            task.then(task.outcome())
            self._parked.look_soon()

    def _refuse_submissions(self) -> None:
        while True:
            try:
                submission = self._submissions.get_nowait()
            except queue.Empty:
                return
            if isinstance(submission, _Submission):
                for operation in submission.operations:
                    operation.refuse(Stopping("the server is shutting down"))
                submission.latch.open()


def _touch(connection: Connection) -> None:
    """Writes what is there already: a transaction without a write commits on a full disk, too."""
    connection.execute(_TOUCH)
