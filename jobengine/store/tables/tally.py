"""What became of jobs, counted in memory: of one batch, and of many."""

from collections import Counter
from collections.abc import Iterable, Sequence

from jobengine.domain.durations import BUCKETS, bucket_of
from jobengine.store.tables.depths import Moves
from jobengine.store.tables.models import COMPLETE, COUNTS, DEPTHS, FAILED, INPROGRESS, QUEUED

_WIDTH = len(COUNTS) + len(DEPTHS)
_CREATED = COUNTS.index("created")
_EXPIRED, _DELETED = COUNTS.index("expired"), COUNTS.index("deleted")
_INTO = {
    INPROGRESS: COUNTS.index("claimed"),
    COMPLETE: COUNTS.index("completed"),
    FAILED: COUNTS.index("failed"),
}
_WAIT, _RUN = COUNTS.index("wait_seconds"), COUNTS.index("run_seconds")

# How many jobs of a queue, by its id, took so many seconds.
Durations = Counter[tuple[int, int]]


class Tally:
    """What a batch did: how many jobs it moved, which of them expired, and what they took."""

    __slots__ = ("expired", "met", "moves", "runs", "waits")

    def __init__(self) -> None:
        self.moves = Moves()
        # Of the jobs that were deleted while queued, by queue id.
        self.expired = Counter[int]()
        # Of those, the jobs that claims met and deleted, by the queue's name.
        self.met = Counter[str]()
        self.waits = Durations()
        self.runs = Durations()

    def clear(self) -> None:
        """Forgets all of it."""
        for counter in (self.moves, self.expired, self.met, self.waits, self.runs):
            counter.clear()

    def add(self, other: "Tally") -> None:
        """Adds what another counted."""
        self.moves.update(other.moves)
        self.expired.update(other.expired)
        self.met.update(other.met)
        self.waits.update(other.waits)
        self.runs.update(other.runs)

    def moved(self, queue_id: int, before: int, after: int, since: int | None, now: int) -> None:
        """Counts a job that was in a state since then, and went to another now."""
        self.moves[queue_id, before, after] += 1
        if since is None:
            return
        if before == INPROGRESS and after in (COMPLETE, FAILED):
            self.runs[queue_id, max(0, now - since)] += 1
        elif before == QUEUED and after == INPROGRESS:
            self.waits[queue_id, max(0, now - since)] += 1

    def claimed(self, queue_id: int, since: Iterable[int], now: int) -> None:
        """Counts jobs that were queued since then, and were claimed now."""
        waits = Counter(since)
        if not waits:
            return
        self.moves[queue_id, QUEUED, INPROGRESS] += waits.total()
        for began, jobs in waits.items():
            self.waits[queue_id, max(0, now - began)] += jobs


class Totals:
    """Sums of tallies by queue id, each in the order of COUNTS, then of DEPTHS.

    A depth here is by how much it changed.
    """

    def __init__(self) -> None:
        self.by_queue: dict[int, list[int]] = {}

    def add(self, tally: Tally) -> None:
        """Adds what a batch did. A thread beside may read a list of `by_queue` meanwhile."""
        for (queue_id, before, after), jobs in tally.moves.items():
            if before != after and jobs:
                totals = self._of(queue_id)
                self._move(totals, before, after, jobs)
                if after is None:
                    expired = tally.expired[queue_id] if before == QUEUED else 0
                    totals[_EXPIRED] += expired
                    totals[_DELETED] += jobs - expired
        for first, durations in ((_WAIT, tally.waits), (_RUN, tally.runs)):
            for (queue_id, seconds), jobs in durations.items():
                totals = self._of(queue_id)
                totals[first] += seconds * jobs
                totals[first + 1 + bucket_of(seconds)] += jobs

    def copy(self) -> "Totals":
        """The same sums, to be changed by themselves."""
        made = Totals()
        made.by_queue = {id_: list(totals) for id_, totals in self.by_queue.items()}
        return made

    def _of(self, queue_id: int) -> list[int]:
        totals = self.by_queue.get(queue_id)
        if totals is None:
            totals = self.by_queue[queue_id] = [0] * _WIDTH
        return totals

    @staticmethod
    def _move(totals: list[int], before: int | None, after: int | None, jobs: int) -> None:
        if before is None:
            totals[_CREATED] += jobs
        else:
            totals[len(COUNTS) + before] -= jobs
        if after is not None:
            totals[len(COUNTS) + after] += jobs
            if after in _INTO:
                totals[_INTO[after]] += jobs


def buckets(counts: Sequence[int], of: str) -> Sequence[int]:
    """The buckets of `wait` or `run`, out of numbers in the order of COUNTS."""
    at = (_WAIT if of == "wait" else _RUN) + 1
    return counts[at : at + BUCKETS]
