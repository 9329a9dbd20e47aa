"""The in-progress window: a job that nobody updates fails."""

from collections import Counter

from jobengine.domain.clock import Clock
from jobengine.domain.queue import Queue
from jobengine.engine.duties.duty import CHUNK
from jobengine.engine.queues import Queues
from jobengine.store import sweeps
from jobengine.store.operations import Task
from jobengine.store.reads import Reads
from jobengine.store.writer import Writer


class Fail:
    """Fails jobs that were in progress for longer than their queue's window.

    A look walks all the jobs in progress of a queue, beside the writer, and tells when
    the next look is worth it: when the window of the job that is the oldest now ends.
    """

    event = "jobs failed by their window"

    def __init__(self, writer: Writer, reads: Reads, queues: Queues, clock: Clock) -> None:
        self._writer = writer
        self._reads = reads
        self._queues = queues
        self._clock = clock
        self._looked = 0
        # By a queue's id and window, when its next look is worth it.
        self._due: dict[tuple[int, int], int] = {}

    def chunk(self) -> tuple[Counter[str], bool]:
        """See Duty."""
        now = self._clock.now()
        if now < self._looked:
            self._due.clear()  # the clock was set back, and all that was noted with it
        self._looked = now
        for queue in self._queues.all():
            if now < self._due.get((queue.id, queue.window), 0):
                continue
            failed = self._fail(queue, now)
            if failed:
                return Counter({queue.name: failed}), True
        return Counter(), False

    def _fail(self, queue: Queue, now: int) -> int:
        """Fails up to CHUNK jobs of the queue; notes the next look where there are none."""
        ids = self._reads.overdue(queue, now, CHUNK)
        if ids:
            return self._writer.submit(
                Task(lambda connection: sweeps.fail(connection, queue, ids, now))
            )
        oldest = self._reads.oldest_in_progress(queue)
        oldest = now if oldest is None else oldest
        self._due[queue.id, queue.window] = oldest + queue.window + 1
        return 0
