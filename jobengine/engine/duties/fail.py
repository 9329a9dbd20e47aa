"""The in-progress window: a job that nobody updates fails."""

from collections import Counter
from collections.abc import Iterable

from jobengine.domain.clock import Clock
from jobengine.domain.queue import Queue
from jobengine.engine.duties.duty import CHUNK
from jobengine.engine.queues import Queues
from jobengine.store.reads import Reads
from jobengine.store.tables import sweeps
from jobengine.store.writing.operations import Sweep
from jobengine.store.writing.writer import Writer

# Queues looked at in a chunk; each costs two reads at most.
_QUEUES = 100


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
        # The ids of the queues that this round has still to look at.
        self._left: list[int] = []
        # By a queue's id and window, when its next look is worth it.
        self._due: dict[tuple[int, int], int] = {}

    def chunk(self) -> tuple[Counter[str], bool]:
        """See Duty."""
        now = self._clock.now()
        if not self._clock.steady():
            return Counter(), False  # what is written as failed would be so for good
        if now < self._looked:
            self._due.clear()  # the clock was set back, and all that was noted with it
        self._looked = now
        present = {queue.id: queue for queue in self._queues.all()}
        if not self._left:
            self._left = self._worth_a_look(present.values(), now)
        for _ in range(min(_QUEUES, len(self._left))):
            queue = present.get(self._left[-1])
            failed = self._fail(queue, now) if queue is not None else 0
            if queue is not None and failed:
                return Counter({queue.name: failed}), True
            self._left.pop()
        return Counter(), bool(self._left)

    def _worth_a_look(self, queues: Iterable[Queue], now: int) -> list[int]:
        """The ids of the queues with jobs in progress, of which one may be overdue.

        One read for all the others: after a start, and where nothing is claimed, there are many.
        """
        due = [q for q in queues if self._due.get((q.id, q.window), 0) <= now]
        busy = self._reads.in_progress() if due else frozenset()
        for queue in due:
            if queue.id not in busy:
                self._note(queue, now)
        return [queue.id for queue in due if queue.id in busy]

    def _note(self, queue: Queue, oldest: int) -> None:
        self._due[queue.id, queue.window] = oldest + queue.window + 1

    def _fail(self, queue: Queue, now: int) -> int:
        """Fails up to CHUNK jobs of the queue; notes the next look where there are none."""
        ids = self._reads.overdue(queue, now, CHUNK)
        if ids:
            return self._writer.submit(
                Sweep(lambda connection, tally: sweeps.fail(connection, tally, queue, ids, now))
            )
        oldest = self._reads.oldest_in_progress(queue)
        self._note(queue, now if oldest is None else oldest)
        return 0
