"""What a figure is, and at what size it is taken."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Scale:
    """How much work a run does."""

    name: str
    seconds: float  # of load for each measurement
    rounds: int  # measurements of each side, in turn; their median counts
    jobs: int  # stored where a figure says "a million"
    connections: int = 64


TINY = Scale("tiny", seconds=0.25, rounds=1, jobs=2_000, connections=8)
FULL = Scale("full", seconds=3, rounds=3, jobs=1_000_000)
NIGHTLY = Scale("nightly", seconds=3, rounds=3, jobs=10_000_000)


@dataclass
class Result:
    """A ratio, the figure's two sides, and what was measured with what."""

    ratio: float
    above: float
    below: float
    unit: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Figure:
    """One row of the table. `bound` is "at least" or "at most", then the number, or None."""

    name: str
    title: str
    bound: tuple[str, float] | None
    run: Callable[[Scale, Path], Result]
    needs: Callable[[], str | None] = lambda: None
    """What is missing to run it, as a sentence; None where nothing is."""

    def holds(self, result: Result) -> bool:
        """Whether the result is within the bound."""
        if self.bound is None:
            return True
        word, number = self.bound
        return result.ratio >= number if word == "at least" else result.ratio <= number


def in_turn(
    above: Callable[[], float], below: Callable[[], float], scale: Scale, unit: str
) -> Result:
    """Measures A, B, A, B, …: the median of the ratios, pair by pair."""
    pairs = [(above(), below()) for _ in range(scale.rounds)]
    return Result(
        ratio=median(a / b for a, b in pairs),
        above=median(a for a, _ in pairs),
        below=median(b for _, b in pairs),
        unit=unit,
    )
