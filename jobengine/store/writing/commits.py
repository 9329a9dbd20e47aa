"""The write connection: a batch, its transaction, its commit, and another try."""

import time
from collections import Counter
from collections.abc import Collection, Sequence

import structlog
from sqlalchemy import Connection, RootTransaction
from sqlalchemy.exc import SQLAlchemyError

from jobengine.domain.clock import Clock
from jobengine.domain.errors import OutcomeUnknown, StoreFailed, Unavailable
from jobengine.store.database import Database
from jobengine.store.failures import (
    DEADLOCKS,
    FailureLog,
    concerns_all,
    is_damage,
    may_be_done,
    sqlstate,
)
from jobengine.store.writing.batch import Batch, Waiting, nobody
from jobengine.store.writing.load import WriterLoad
from jobengine.store.writing.operations import Create, Update
from jobengine.store.writing.parked import ParkedClaims
from jobengine.store.writing.submissions import Submission
from jobengine.store.writing.unwritten import Unwritten
from jobengine.store.writing.walks import Walks

# How often a batch is run, but for the last time, where it meets deadlocks.
_ATTEMPTS = 4

_UNKNOWN = (
    "the database or its disk failed while it committed: the change may have been made, or "
    "may not; look before you make it again"
)
WRITER_FAILED = (
    "the writer failed: the change may have been made, or may not; look before you make it again"
)

_log = structlog.get_logger(component="writer")


class Commits:
    """Commits batches, one after the other, on a connection of its own.

    The writer's thread alone touches it, but for `load`.
    """

    def __init__(
        self, database: Database, clock: Clock, parked: ParkedClaims, statistics: Unwritten
    ) -> None:
        self.load = WriterLoad()
        self.walks = Walks()
        self._database = database
        self._clock = clock
        self._parked = parked
        self._statistics = statistics
        self._connection: Connection | None = None
        self._damaged = FailureLog("a damaged page was met: its callers are refused")
        # By the queue's name; nobody has logged it yet.
        self._expired: Counter[str] = Counter()

    def commit(self, submissions: Sequence[Submission], woken: Collection[int]) -> Collection[int]:
        """Commits the batch, as one or, where that fails, each submission for itself.

        Nobody has been answered before, so all of it can be undone and run again: as it is
        after a deadlock or on another connection, but not where a lock was waited for in
        vain, which each submission would do again. Gives the ids of the queues that the
        next batch is to look at again for the claims that wait. Raises NothingDone;
        OutcomeUnknown; and of any other error it is not known what was done.
        """
        alone = False
        for attempt in range(_ATTEMPTS):
            try:
                return self._attempt(submissions, woken, alone=alone, again=attempt > 0)
            except _StatementFailed as failed:
                error = failed.__cause__ or failed
                self._database.damage.note(error)
                state = sqlstate(error)
                _postpone(submissions)
                if is_damage(error) and not state:
                    self._damaged.log(error)
                    self.renew()
                    return self._commit_each(submissions, woken)
                if alone or (concerns_all(error) and not failed.lost):
                    raise
                if failed.lost:
                    self.renew()
                elif state not in DEADLOCKS:
                    alone = True
                name = type(error).__name__
                _log.warning("a batch failed and is run again", error=name, sqlstate=state)
        return self._attempt(submissions, woken, alone=alone, again=True)

    def report(self) -> None:
        """Logs what the claims of the last batch have deleted."""
        if not self._expired:
            return
        expired, self._expired = self._expired, Counter()
        for name, jobs in expired.items():
            _log.info("jobs expired", queue=name, jobs=jobs)

    def renew(self) -> None:
        """Drops the connection; the next batch opens another."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.invalidate()
                connection.close()
            self._database.writer.dispose()
        except SQLAlchemyError:
            _log.exception("the connection could not be closed; another is opened")

    def _commit_each(
        self, submissions: Sequence[Submission], woken: Collection[int]
    ) -> Collection[int]:
        """Commits each submission in a transaction of its own; refuses those that fail.

        SQLCipher refuses whatever else is done on a connection that has met a damaged page, so
        a savepoint does not help. Gives what `commit` does.
        """
        cut: set[int] = set()
        for submission in submissions:
            cut.update(self._commit_alone(submission))
        operations = [o for submission in submissions for o in submission.operations]
        fed = {o.queue.id for o in operations if isinstance(o, Create | Update)}
        for queue_id in self._parked.waited_for({*fed, *woken}):
            waiters = Submission(self._parked.waiting(queue_id))
            cut.update(self._commit_alone(waiters))
            self._parked.release_refused(queue_id)
        return cut

    def _commit_alone(self, submission: Submission) -> Collection[int]:
        try:
            return self._attempt([submission], (), alone=False, again=True, waiting=nobody)
        except (NothingDone, OutcomeUnknown) as error:
            submission.refuse(failure(error))
            self.renew()
            return ()

    def _attempt(
        self,
        submissions: Sequence[Submission],
        woken: Collection[int],
        *,
        alone: bool,
        again: bool,
        waiting: Waiting | None = None,
    ) -> Collection[int]:
        """Runs and commits the batch. Raises as `commit`, and _StatementFailed."""
        connection, transaction, now = self._begin()
        operations = [o for submission in submissions for o in submission.operations]
        batch = Batch(
            connection,
            self._database.contents,
            now,
            waiting or self._parked.waiting,
            self._clock.steady,
            self.walks,
        )
        try:
            fed = batch.run_each(submissions, woken) if alone else batch.run(operations, woken)
            if fed:
                self._database.announce_jobs(connection, fed)
            elapsed = self._clock.elapsed()
            self._statistics.join(connection, batch.tally, now, elapsed, again=again)
        except Exception as error:
            self._parked.reset()
            raise _StatementFailed(lost=not _rolled_back(transaction)) from error
        began = time.perf_counter()
        try:
            transaction.commit()
        except BaseException as error:
            self._parked.reset()
            # Any other error that the database sent says that it was not done.
            if may_be_done(error):
                raise OutcomeUnknown(_UNKNOWN) from error
            raise NothingDone from error
        self._parked.release_served()
        if batch.walked:
            self.walks.keep(batch.walked, now)
        self.load.committed(len(operations), time.perf_counter() - began)
        self._statistics.committed()
        if batch.tally.met:
            self._expired.update(batch.tally.met)
        return self._parked.waited_for(batch.cut) if batch.cut else ()

    def _begin(self) -> tuple[Connection, RootTransaction, int]:
        """The connection, in a new transaction, as of now."""
        try:
            connection = self._connection = self._connection or self._database.writer.connect()
            return connection, connection.begin(), self._clock.now()
        except Exception as error:
            raise NothingDone from error


class NothingDone(Exception):
    """A batch was not committed, for the reason that is its cause."""


class _StatementFailed(NothingDone):
    """A statement of a batch failed; `lost` is the connection, too."""

    def __init__(self, *, lost: bool) -> None:
        super().__init__()
        self.lost = lost


def failure(error: Exception) -> Unavailable:
    """What the callers of a batch get that met the error."""
    if isinstance(error, OutcomeUnknown):
        return error
    refused: Unavailable
    if isinstance(error, NothingDone):
        if isinstance(error.__cause__, StoreFailed):
            return error.__cause__  # says why nothing is written
        refused = StoreFailed("the database could not commit; nothing was changed")
        refused.__cause__ = error.__cause__
    else:
        refused = OutcomeUnknown(WRITER_FAILED)
        refused.__cause__ = error
    return refused


def _postpone(submissions: Sequence[Submission]) -> None:
    """Takes back what a batch that was undone came to."""
    for submission in submissions:
        for operation in submission.operations:
            operation.postpone()


def _rolled_back(transaction: RootTransaction) -> bool:
    """Rolls back; whether the connection was there to do it, or else it is as good as done."""
    try:
        transaction.rollback()
    except SQLAlchemyError:
        return False
    return True
