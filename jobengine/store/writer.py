"""The one thread that writes: group commit.

Callers hand it operations and wait. It takes all that are waiting, runs them as
one batch, commits once, and so fsyncs once, and then lets all the callers go. A
lone caller waits for nobody; under load one fsync serves many.
"""

import queue
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, TypeVar

import structlog
from sqlalchemy import Connection, RootTransaction, text
from sqlalchemy.exc import SQLAlchemyError

from jobengine.domain.clock import Clock
from jobengine.domain.errors import OutcomeUnknown, Stopping, StoreFailed, Unavailable
from jobengine.store.batch import Batch
from jobengine.store.database import Database
from jobengine.store.failures import DEADLOCKS, LOCK_TIMEOUT, may_be_done, sqlstate
from jobengine.store.latches import Latch, new_latch
from jobengine.store.operations import Claim, Operation, Task
from jobengine.store.parked import ParkedClaims

T = TypeVar("T")

# Submissions a batch: a bound on what one commit may have to undo and hold up.
_BATCH_MAX = 512

Run = Callable[[Batch, Sequence[Operation[Any]], Collection[int]], Collection[int]]

# How often a batch is run, but for the last time, where it meets deadlocks.
_ATTEMPTS = 4

# How long a failed commit counts before it is looked whether the next one fails too.
_RETRY_SECONDS = 1.0

_UNKNOWN = (
    "the database or its disk failed while it committed: the change may have been made, or "
    "may not; look before you make it again"
)

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

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        # A None asks for the end, or, before that, lets go of the claims that wait.
        self._submissions: queue.SimpleQueue[_Submission | _Wake | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._stopped = threading.Event()
        self._connection: Connection | None = None
        self._parked = ParkedClaims()
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
            if submissions or woken:
                self._work(submissions, woken)
            self._parked.look(self._clock.elapsed())
        self._parked.close()
        self._renew()

    def _take(self) -> tuple[list[_Submission], Collection[int]]:
        """All that is waiting, or the first to come before the next look at parked claims.

        With it the ids of queues that claims wait for and another server fed.
        """
        taken: list[_Submission] = []
        woken: set[int] = set()
        look = self._parked.next_look()
        timeout = None if look is None else max(0.0, look - self._clock.elapsed())
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
            self._commit(operations, woken)
            if self._failed_at is not None:
                _log.warning("the database commits again")
            self._failed_at = None
        except Exception as error:  # noqa: BLE001  logged, and told to every caller
            if self._failed_at is None:
                _log.exception("commit failed", operations=len(operations))
            self._failed_at = self._clock.elapsed()
            failure: Unavailable = (
                error
                if isinstance(error, OutcomeUnknown)
                else StoreFailed("the database could not commit; nothing was changed")
            )
            failure.__cause__ = error.__cause__ if failure is error else error
            for operation in operations:
                operation.refuse(failure)
        finally:
            self._release(submissions)
            if self._failed_at is not None:
                self._renew()

    def _commit(self, operations: Sequence[Operation[Any]], woken: Collection[int]) -> None:
        """Commits the batch, as one or, where that fails, each for itself.

        Nobody has been answered before, so all of it can be undone and run again: as it is
        after a deadlock or on another connection, but not where a lock was waited for in
        vain, which each operation would do again.
        """
        run: Run = Batch.run
        for _ in range(_ATTEMPTS):
            try:
                self._attempt(run, operations, woken)
            except _StatementFailed as failed:
                state = sqlstate(failed.__cause__)
                if state == LOCK_TIMEOUT or run is Batch.run_each:
                    raise
                if failed.lost:
                    self._renew()
                elif state not in DEADLOCKS:
                    run = Batch.run_each
            else:
                return
        self._attempt(run, operations, woken)

    def _attempt(
        self, run: Run, operations: Sequence[Operation[Any]], woken: Collection[int]
    ) -> None:
        """Runs and commits the batch.

        Raises _StatementFailed; OutcomeUnknown; and what connecting and committing raise,
        when nothing was done.
        """
        connection = self._connection = self._connection or self._database.writer.connect()
        transaction = connection.begin()
        batch = Batch(connection, self._database.contents, self._clock.now(), self._parked.waiting)
        try:
            fed = run(batch, operations, woken)
            if fed:
                self._database.announce_jobs(connection, fed)
        except Exception as error:
            self._parked.reset()
            raise _StatementFailed(lost=not _rolled_back(transaction)) from error
        try:
            transaction.commit()
        except BaseException as error:
            self._parked.reset()
            # Any other error that the database sent says that it was not done.
            if may_be_done(error):
                raise OutcomeUnknown(_UNKNOWN) from error
            raise
        self._parked.release_served()

    def _release(self, submissions: Sequence[_Submission]) -> None:
        """Lets the callers go; parks the claims that found nothing and may wait."""
        for operations, latch in submissions:
            last = operations[-1]
            if isinstance(last, Claim) and self._parked.takes(last):
                self._parked.add(last, latch, self._clock.elapsed())
            else:
                latch.open()

    def _renew(self) -> None:
        """Drops the connection; the next batch opens another."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.invalidate()
                connection.close()
            self._database.writer.dispose()
        except SQLAlchemyError:
            _log.exception("the connection could not be closed; another is opened")

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


class _StatementFailed(Exception):
    """A statement of a batch failed, and nothing was done; `lost` is the connection, too."""

    def __init__(self, *, lost: bool) -> None:
        super().__init__()
        self.lost = lost


def _rolled_back(transaction: RootTransaction) -> bool:
    """Rolls back; whether the connection was there to do it, or else it is as good as done."""
    try:
        transaction.rollback()
    except SQLAlchemyError:
        return False
    return True


def _touch(connection: Connection) -> None:
    """Writes what is there already: a transaction without a write commits on a full disk, too."""
    connection.execute(_TOUCH)
