"""What the background thread asks of a duty, and what the sweeps have in common."""

from collections import Counter
from typing import Protocol

from sqlalchemy import Connection

from jobengine.domain.clock import Clock
from jobengine.engine.queues import Queues
from jobengine.store.tables.tally import Tally
from jobengine.store.writing.operations import Sweep
from jobengine.store.writing.writer import Writer

# Jobs a chunk: some 10 ms of the writer's time, which is what a claim may have to wait.
CHUNK = 500


class Duty(Protocol):
    """Something done a chunk at a time. `event` is what the log says of it."""

    event: str

    def chunk(self) -> tuple[Counter[str], bool]:
        """Does one chunk: how many jobs by queue name, and whether there may be more."""


class SweepDuty:
    """A duty that applies time to the jobs of all queues, while the clock is to be trusted."""

    event: str

    def __init__(self, writer: Writer, queues: Queues, clock: Clock) -> None:
        self._writer = writer
        self._queues = queues
        self._clock = clock

    def touch(self, connection: Connection, tally: Tally, now: int) -> Counter[int]:
        """Touches up to CHUNK jobs as of `now`, and counts them by queue id."""
        raise NotImplementedError

    def chunk(self) -> tuple[Counter[str], bool]:
        """See Duty."""
        now = self._clock.now()  # before the look at the clock: it may jump between the two
        if not self._clock.steady():
            return Counter(), False
        sweep = Sweep(lambda connection, tally: self.touch(connection, tally, now))
        counts = self._writer.submit(sweep)
        names = self._queues.names()
        by_name = Counter({names.get(id_, "a removed queue"): n for id_, n in counts.items()})
        return by_name, counts.total() == CHUNK
