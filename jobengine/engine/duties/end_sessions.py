"""Expired sessions of the dashboard: deleted."""

from collections import Counter

import structlog

from jobengine.domain.clock import Clock
from jobengine.engine.duties.duty import CHUNK
from jobengine.store.reads import Reads
from jobengine.store.tables import people
from jobengine.store.writing.operations import Task
from jobengine.store.writing.writer import Writer

_log = structlog.get_logger(component="duties")


class EndSessions:
    """Deletes sessions that have expired, which nobody is logged in with any more."""

    event = "expired sessions deleted"

    def __init__(self, writer: Writer, reads: Reads, clock: Clock) -> None:
        self._writer = writer
        self._reads = reads
        self._clock = clock

    def chunk(self) -> tuple[Counter[str], bool]:
        """See Duty. No jobs are touched."""
        now = self._clock.now()
        if not self._clock.steady():
            return Counter(), False
        with self._reads.connection() as connection:  # beside the writer: there are few to find
            digests = people.expired_sessions(connection, now, CHUNK)
        if digests:
            delete = Task(lambda connection: people.delete_sessions(connection, digests))
            _log.info(self.event, sessions=self._writer.submit(delete))
        return Counter(), len(digests) == CHUNK
