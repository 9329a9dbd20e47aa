"""Statistics grow old: minutes become hours, and hours are deleted."""

from collections import Counter
from functools import partial

from jobengine.domain.clock import Clock
from jobengine.engine.duties.duty import CHUNK
from jobengine.store.tables import statistics
from jobengine.store.writing.operations import Task
from jobengine.store.writing.writer import Writer

# How long there are minutes, and how long there is anything, in seconds.
MINUTES_KEPT = 2 * 86_400
HOURS_KEPT = 30 * 86_400


class Thin:
    """Makes hours of the minutes of two days ago, and deletes what is older than thirty."""

    event = "statistics thinned"

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        # The hour for which all is done.
        self._done: int | None = None

    def chunk(self) -> tuple[Counter[str], bool]:
        """See Duty. No jobs are touched."""
        now = self._clock.now()
        hour = now - now % statistics.HOUR
        if hour == self._done or not self._clock.steady():
            return Counter(), False
        more = False
        for age, old in ((statistics.thin, MINUTES_KEPT), (statistics.forget, HOURS_KEPT)):
            task = Task(partial(age, before=hour - old, limit=CHUNK))
            more |= self._writer.submit(task) == CHUNK
        if not more:
            self._done = hour
        return Counter(), more
