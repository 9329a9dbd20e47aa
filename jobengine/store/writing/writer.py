"""The one thread that writes: group commit.

Callers hand it operations and wait. It takes all that are waiting, runs them as
one batch, commits once, and so fsyncs once, and then lets all the callers go. A
lone caller waits for nobody; under load one fsync serves many.
"""

import queue
import threading
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import structlog
from sqlalchemy import Connection, text

from jobengine.domain.clock import Clock
from jobengine.domain.errors import OutcomeUnknown, Stopping, StoreFailed, Unavailable
from jobengine.store.database import Database
from jobengine.store.tables.tally import Totals
from jobengine.store.writing.backlog import Backlog
from jobengine.store.writing.commits import WRITER_FAILED, Commits, failure
from jobengine.store.writing.load import WriterLoad
from jobengine.store.writing.operations import Claim, Operation, Task
from jobengine.store.writing.parked import ParkedClaims
from jobengine.store.writing.submissions import Submission
from jobengine.store.writing.unwritten import Unwritten

T = TypeVar("T")

# How long a failed commit counts before it is looked whether the next one fails too.
_RETRY_SECONDS = 1.0

# After an error of the writer itself: an error that lasts must not keep a core busy.
_PAUSE_SECONDS = 0.05

# A row that is always there, and that nobody else writes but a migration.
_TOUCH = text("UPDATE alembic_version SET version_num = version_num")

_log = structlog.get_logger(component="writer")


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
        self._arrived: queue.SimpleQueue[Submission | _Wake | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._stopped = threading.Event()
        self._ended = False
        self._backlog = Backlog()
        # The batch in hand: whom the thread has yet to let go.
        self._held: deque[Submission] = deque()
        # The queues that the next batch is to look at for the claims that wait.
        self._woken: set[int] = set()
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
        batch was done; OutcomeUnknown where the database was lost at the commit, or where
        the writer failed so that nobody knows; Stopping after `stop`.
        """
        self.submit_all([operation])
        return operation.outcome()

    def submit_all(self, operations: Sequence[Operation[Any]]) -> None:
        """Waits until the operations are committed, in one commit; each has its outcome.

        Where a statement of one fails, none of them is done. Raises Stopping after `stop`.
        """
        if self._stopped.is_set():
            raise self._end()
        submission = Submission(operations)
        self._arrived.put(submission)
        if self._ended or not self._thread.is_alive():
            self._refuse_arrived()  # it slipped in behind the end
        submission.latch.wait()

    def check(self) -> None:
        """Raises Unavailable where operations are not taken, or the last commit failed."""
        if self._stopped.is_set() or self._ended or not self._thread.is_alive():
            raise self._end()
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
        self._arrived.put(_Wake(queue_ids))

    def stop_waiting(self) -> None:
        """Lets go of the claims that wait for a job, and keeps no other waiting."""
        self._arrived.put(None)

    def stop(self) -> None:
        """Finishes what was submitted and closes the connection."""
        self._stopped.set()
        self._arrived.put(None)
        self._thread.join()
        self._refuse_arrived()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set() or self._backlog or not self._arrived.empty():
                self._turn()
            self._parked.close()
            self._statistics.hurry()
            if self._seconds_until_write() == 0:
                self._work(())
            self._commits.renew()
        finally:
            # First, so that whoever submits from now on lets itself go.
            self._ended = True
            self._refuse(OutcomeUnknown(WRITER_FAILED))
            self._release()
            for submission in self._backlog.clear():
                self._arrived.put(submission)
            self._refuse_arrived()
            self._parked.close()

    def _turn(self) -> None:
        """A batch, where there is something for it, whatever comes of it."""
        try:
            self._collect()
            self._held = self._backlog.take()
            woken, self._woken = self._woken, set()
            if self._held or woken or self._seconds_until_write() == 0:
                self._work(woken)
            self._parked.look(self._clock.elapsed())
        except Exception:  # noqa: BLE001  logged; the next calls must be served
            self._refuse(OutcomeUnknown(WRITER_FAILED))
            self._release()
            with suppress(Exception):  # the log itself may be what failed
                _log.exception("the writer failed, and goes on")
            self._stopped.wait(_PAUSE_SECONDS)

    def _seconds_until_write(self) -> float | None:
        """How long statistics may still wait for a batch to write them; None where they may.

        While the database cannot commit they wait for the first batch that it can.
        """
        due = self._statistics.due_at()
        if due is None or self._failed_at is not None:
            return None
        return max(0.0, due - self._clock.elapsed())

    def _patience(self) -> float | None:
        """How long to wait for somebody, in seconds; None where there is nothing else to do."""
        if self._backlog or (self._woken and self._failed_at is None):
            return 0
        look = self._parked.next_look()
        until_look = None if look is None else max(0.0, look - self._clock.elapsed())
        waits = [w for w in (until_look, self._seconds_until_write()) if w is not None]
        return min(waits, default=None)

    def _collect(self) -> None:
        """Takes all that has arrived, or the first to come before there is something else to do."""
        try:
            arrived = self._arrived.get(timeout=self._patience())
            while True:
                if isinstance(arrived, Submission):
                    self._backlog.add(arrived)
                elif arrived is None:
                    self._parked.close()
                else:
                    self._commits.walks.feed(arrived.queue_ids)
                    self._woken |= self._parked.waited_for(arrived.queue_ids)
                arrived = self._arrived.get_nowait()
        except queue.Empty:
            return

    def _work(self, woken: Collection[int]) -> None:
        """Runs and commits the batch in hand, and lets its callers go whatever comes of it.

        Logs only after that: a log that fails must not change what they get.
        """
        submissions = list(self._held)
        if self._failed_at is not None:
            # Only a write shows whether the database commits again.
            submissions.append(Submission([Task(_touch)]))
        failed, before = None, self._failed_at
        try:
            self._woken |= set(self._commits.commit(submissions, woken))
            self._failed_at = None
        except Exception as error:  # noqa: BLE001  logged, and told to every caller
            failed = error
            self._failed_at = self._clock.elapsed()
            self._woken |= set(woken)
            self._refuse(failure(error))
        self._release()
        if failed is not None:
            self._commits.renew()
            if before is None:
                _log.error("commit failed", submissions=len(submissions), exc_info=failed)
        elif before is not None:
            _log.warning("the database commits again")
        self._commits.report()

    def _refuse(self, error: Exception) -> None:
        for submission in self._held:
            submission.refuse(error)

    def _release(self) -> None:
        """Lets the callers go; keeps the claims that the next batch goes on with, or that wait."""
        lost = 0
        while self._held:
            submission = self._held.popleft()
            try:
                self._let_go(submission)
            except Exception:  # noqa: BLE001  counted; the other callers must be let go
                lost += 1
        if lost:
            _log.error("callers could not be let go", callers=lost)

    def _let_go(self, submission: Submission) -> None:
        last = submission.operations[-1]
        if isinstance(last, Claim):
            if last.pending:
                submission.go_on(last)
                if not self._stopped.is_set():
                    self._arrived.put(submission)
                    return
                if last.left:
                    last.settle([])  # as one that is not permitted any more
                else:
                    submission.refuse(self._end())
            elif self._parked.takes(last):
                self._parked.add(last, submission.latch, self._clock.elapsed())
                return
        try:
            if isinstance(last, Task):
                self._put_in_force(last)
        finally:
            submission.latch.open()

    def _put_in_force(self, task: Task[Any]) -> None:
        """Has what the task changed go for the next batch, and for the claims that wait."""
        if task.then is not None and not task.refused:
            task.then(task.outcome())
            self._parked.look_soon()

    def _refuse_arrived(self) -> None:
        """Refuses what nobody is there to do any more; on whatever thread finds it."""
        with suppress(queue.Empty):
            while True:
                arrived = self._arrived.get_nowait()
                if isinstance(arrived, Submission):
                    arrived.refuse(self._end())
                    arrived.latch.open()

    def _end(self) -> Unavailable:
        """What those get who come after the end."""
        if self._stopped.is_set():
            return Stopping("the server is shutting down")
        return StoreFailed("the thread that writes has ended: restart the server")


def _touch(connection: Connection) -> None:
    """Writes what is there already: a transaction without a write commits on a full disk, too."""
    connection.execute(_TOUCH)
