"""Removed queues: their jobs are deleted, and then they are."""

from collections import Counter

import structlog

from jobengine.engine.duties.duty import CHUNK
from jobengine.store.reads import Reads
from jobengine.store.tables import depths
from jobengine.store.tables import queues as store
from jobengine.store.writing.operations import Sweep
from jobengine.store.writing.writer import Writer

_log = structlog.get_logger(component="duties")


class Purge:
    """Deletes the jobs of queues that the config no longer has, one queue after another."""

    event = "jobs of removed queues deleted"

    def __init__(self, writer: Writer, reads: Reads) -> None:
        self._writer = writer
        self._reads = reads
        self._announced: set[int] = set()

    def chunk(self) -> tuple[Counter[str], bool]:
        """See Duty."""
        with self._reads.connection() as connection:
            removed = store.removed_queues(connection)
        if not removed:
            return Counter(), False
        queue_id, name = removed[0]
        self._announce(queue_id, name)
        gone = self._writer.submit(
            Sweep(lambda connection, tally: store.purge(connection, tally, queue_id, CHUNK))
        )
        return Counter({name: gone}), True

    def _announce(self, queue_id: int, name: str) -> None:
        """Logs once how many jobs are lost. Counted here, since a start must not wait for it."""
        if queue_id in self._announced:
            return
        self._announced.add(queue_id)
        with self._reads.connection() as connection:
            jobs = depths.held(connection, queue_id)
        _log.warning("removed queue is being deleted with its jobs", queue=name, jobs=jobs)
