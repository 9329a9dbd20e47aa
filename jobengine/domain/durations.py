"""Durations in a histogram: fixed bounds, and what can be told from the counts."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

# Upper bounds in seconds, each of them within its bucket; one more bucket takes what is longer.
# The table `statistic` has a column for each bucket: other bounds need a migration.
BOUNDS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400)
BUCKETS = len(BOUNDS) + 1


def bucket_of(seconds: int) -> int:
    """The index of the bucket, 0 to BUCKETS - 1, that the duration falls into."""
    return bisect_left(BOUNDS, seconds)


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The duration in seconds that a share, 0 to 1, of those counted do not exceed.

    Taken as spread evenly within a bucket, as Prometheus' histogram_quantile does; the last
    bound where it lies beyond. None where nothing was counted.
    """
    rank = share * sum(counts)
    if not rank:
        return None
    below = 0
    for index, bound in enumerate(BOUNDS):
        if counts[index] and below + counts[index] >= rank:
            lower = BOUNDS[index - 1] if index else 0
            return lower + (bound - lower) * (rank - below) / counts[index]
        below += counts[index]
    return float(BOUNDS[-1])


class Histogram:
    """Counts what it observes by fixed bounds. One thread observes, any may read."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are the upper ones, each within its bucket, in rising order."""
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def add(self, other: "Histogram") -> None:
        """Adds what another of the same bounds has observed."""
        self.counts = [n + m for n, m in zip(self.counts, list(other.counts), strict=True)]
        self.sum += other.sum

    def cumulative(self) -> "Cumulative":
        """All that was observed."""
        return Cumulative(self._bounds, accumulate(list(self.counts)), self.sum)


class Cumulative:
    """How many values were at most each of the bounds, and the sum of all.

    `buckets` are pairs of a bound, as Prometheus writes it, and a number; the last is of all.
    """

    __slots__ = ("buckets", "sum")

    def __init__(self, bounds: Sequence[float], counts: Iterable[int], total: float) -> None:
        names = [*(f"{bound:.10g}" for bound in bounds), "+Inf"]
        self.buckets = list(zip(names, counts, strict=True))
        self.sum = total

    @property
    def count(self) -> int:
        """How many values there were."""
        return self.buckets[-1][1]
