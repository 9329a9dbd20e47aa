"""The one thread that writes: group commit.

Callers hand it operations and wait. It takes all that are waiting, runs them as
one batch, commits once, and so fsyncs once, and then lets all the callers go. A
lone caller waits for nobody; under load one fsync serves many.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from jobengine.domain.clock import Clock
from jobengine.domain.errors import Stopping, StoreFailed
from jobengine.store import batch
from jobengine.store.latches import Latch, new_latch
from jobengine.store.operations import Claim, Operation
from jobengine.store.parked import ParkedClaims

T = TypeVar("T")

# Submissions a batch: a bound on what one commit may have to undo and hold up.
_BATCH_MAX = 512

Run = Callable[[Connection, Sequence[Operation[Any]], int, batch.Waiting], None]

_log = structlog.get_logger(component="writer")


class _Submission(NamedTuple):
    """What a caller handed over together, and the latch that it waits for."""

    operations: Sequence[Operation[Any]]
    latch: Latch


class Writer:
    """Owns the write connection. Start it once; any thread may submit."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        # A None asks for the end, or, before that, lets go of the claims that wait.
        self._submissions: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._stopped = threading.Event()
        self._connection: Connection | None = None
        self._parked = ParkedClaims()
        self._failing = False

    def start(self) -> None:
        """Begins to take operations."""
        self._thread.start()

    def submit(self, operation: Operation[T]) -> T:
        """Waits until the operation is committed, on disk, and gives its outcome.

        A claim that waits for a job may take its time. Raises what the operation was
        refused with; StoreFailed where the commit failed, in which case nothing of the
        batch was done; Stopping after `stop`.
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
        if self._failing:
            raise StoreFailed("the database could not commit when it was last asked to")

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
            submissions = self._take()
            if submissions:
                self._work(submissions)
            self._parked.look(self._clock.elapsed())
        self._parked.close()
        self._renew()

    def _take(self) -> list[_Submission]:
        """All that is waiting, or the first to come before the next look at parked claims."""
        taken: list[_Submission] = []
        look = self._parked.next_look()
        timeout = None if look is None else max(0.0, look - self._clock.elapsed())
        try:
            submission = self._submissions.get(timeout=timeout)
            while True:
                if submission is None:
                    self._parked.close()
                else:
                    taken.append(submission)
                if len(taken) == _BATCH_MAX:
                    return taken
                submission = self._submissions.get_nowait()
        except queue.Empty:
            return taken

    def _work(self, submissions: Sequence[_Submission]) -> None:
        """Runs and commits a batch, and lets its callers go whatever comes of it."""
        operations = [o for submission in submissions for o in submission.operations]
        try:
            self._commit(operations)
            self._failing = False
        except Exception as error:  # noqa: BLE001  logged, and told to every caller
            self._failing = True
            _log.exception("commit failed", operations=len(operations))
            failure = StoreFailed("the database could not commit; nothing was changed")
            failure.__cause__ = error
            for operation in operations:
                operation.refuse(failure)
        finally:
            self._release(submissions)
            if self._failing:
                self._renew()

    def _commit(self, operations: Sequence[Operation[Any]]) -> None:
        try:
            self._attempt(batch.run, operations)
        except _StatementFailed:
            # Nobody has been answered yet, and all of it was undone.
            self._attempt(batch.run_each, operations)

    def _attempt(self, run: Run, operations: Sequence[Operation[Any]]) -> None:
        """Runs and commits the batch. Raises _StatementFailed, and what a commit raises."""
        connection = self._connection = self._connection or self._engine.connect()
        transaction = connection.begin()
        try:
            run(connection, operations, self._clock.now(), self._parked.waiting)
        except Exception as error:
            self._parked.reset()
            transaction.rollback()
            raise _StatementFailed from error
        try:
            transaction.commit()
        except BaseException:
            self._parked.reset()
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
                connection.close()
            self._engine.dispose()
        except SQLAlchemyError:
            _log.exception("the connection could not be closed; another is opened")

    def _refuse_submissions(self) -> None:
        while True:
            try:
                submission = self._submissions.get_nowait()
            except queue.Empty:
                return
            if submission is not None:
                for operation in submission.operations:
                    operation.refuse(Stopping("the server is shutting down"))
                submission.latch.open()


class _StatementFailed(Exception):
    """A statement of a batch failed; its transaction was rolled back."""
