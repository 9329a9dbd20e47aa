"""The write connection: a batch, its transaction, its commit, and another try."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection, RootTransaction
from sqlalchemy.exc import SQLAlchemyError

from jobengine.domain.clock import Clock
from jobengine.domain.errors import OutcomeUnknown
from jobengine.store.database import Database
from jobengine.store.failures import DEADLOCKS, concerns_all, may_be_done, sqlstate
from jobengine.store.writing.batch import Batch
from jobengine.store.writing.load import WriterLoad
from jobengine.store.writing.operations import Operation
from jobengine.store.writing.parked import ParkedClaims
from jobengine.store.writing.unwritten import Unwritten

Run = Callable[[Batch, Sequence[Operation[Any]], Collection[int]], Collection[int]]

# How often a batch is run, but for the last time, where it meets deadlocks.
_ATTEMPTS = 4

_UNKNOWN = (
    "the database or its disk failed while it committed: the change may have been made, or "
    "may not; look before you make it again"
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
        self._database = database
        self._clock = clock
        self._parked = parked
        self._statistics = statistics
        self._connection: Connection | None = None

    def commit(self, operations: Sequence[Operation[Any]], woken: Collection[int]) -> None:
        """Commits the batch, as one or, where that fails, each for itself.

        Nobody has been answered before, so all of it can be undone and run again: as it is
        after a deadlock or on another connection, but not where a lock was waited for in
        vain, which each operation would do again. Raises OutcomeUnknown, and whatever the
        database does, when nothing was done.
        """
        run: Run = Batch.run
        for attempt in range(_ATTEMPTS):
            try:
                self._attempt(run, operations, woken, again=attempt > 0)
            except _StatementFailed as failed:
                error = failed.__cause__ or failed
                self._database.damage.note(error)
                state = sqlstate(error)
                if run is Batch.run_each or (concerns_all(error) and not failed.lost):
                    raise
                name = type(error).__name__
                _log.warning("a batch failed and is run again", error=name, sqlstate=state)
                if failed.lost:
                    self.renew()
                elif state not in DEADLOCKS:
                    run = Batch.run_each
            else:
                return
        self._attempt(run, operations, woken, again=True)

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

    def _attempt(
        self,
        run: Run,
        operations: Sequence[Operation[Any]],
        woken: Collection[int],
        *,
        again: bool,
    ) -> None:
        """Runs and commits the batch.

        Raises _StatementFailed; OutcomeUnknown; and what connecting and committing raise,
        when nothing was done.
        """
        connection = self._connection = self._connection or self._database.writer.connect()
        transaction, now = connection.begin(), self._clock.now()
        batch = Batch(connection, self._database.contents, now, self._parked.waiting)
        try:
            fed = run(batch, operations, woken)
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
            raise
        self.load.committed(len(operations), time.perf_counter() - began)
        self._statistics.committed()
        self._parked.release_served()


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
