"""The statistics that are in memory alone: about a second's.

An upsert in each batch would cost each caller; one a second is not seen.
"""

from sqlalchemy import Connection

from jobengine.store.tables import statistics
from jobengine.store.tables.tally import Tally, Totals

# Between two writes. What is lost by a kill is no more than this and a batch.
_PERIOD_SECONDS = 1.0


class Unwritten:
    """What committed batches did, until a batch's transaction writes it.

    The writer's thread alone touches it, but for `totals`. Times are readings of
    Clock.elapsed, in seconds.
    """

    def __init__(self) -> None:
        # Of all batches that were committed; only ever grows.
        self.totals = Totals()
        self._by_minute: dict[int, Totals] = {}
        self._due = 0.0
        self._joined: tuple[int, Tally] | None = None
        self._writing = False

    def join(
        self, connection: Connection, tally: Tally, now: int, elapsed: float, *, again: bool
    ) -> None:
        """Takes what a batch did as of `now`, and, where it is time, writes all there is.

        Goes before the batch's commit, and counts once that has succeeded. A batch that the
        write fails is run `again` without, however long that takes.
        """
        minute = now - now % statistics.MINUTE
        self._joined = minute, tally
        due = elapsed >= self._due and not again
        self._writing = due and bool(self._by_minute or tally.moves)
        if self._writing:
            self._due = elapsed + _PERIOD_SECONDS
            together = {time: totals.copy() for time, totals in self._by_minute.items()}
            together.setdefault(minute, Totals()).add(tally)
            statistics.write(connection, together)

    def committed(self) -> None:
        """The batch that joined last is committed, and what was written with it."""
        if self._joined is None:
            return
        (minute, tally), self._joined = self._joined, None
        self.totals.add(tally)
        if self._writing:
            self._by_minute.clear()
        elif tally.moves:
            self._by_minute.setdefault(minute, Totals()).add(tally)

    def due_at(self) -> float | None:
        """When the next write is due; None where there is nothing to write."""
        return self._due if self._by_minute else None

    def hurry(self) -> None:
        """Makes it due at once."""
        self._due = 0.0
