"""Whether a deep queue slows a claim."""

from pathlib import Path

from benchmarks.figure import Figure, Result, Scale, in_turn
from benchmarks.load import load
from benchmarks.service import fill, serving

_SHALLOW = 1_000


def _claim_time(scale: Scale, folder: Path) -> Result:
    """The median time of a claim by a lone client, over a deep and over a shallow queue."""
    deep = fill(folder / "deep", scale.jobs)
    shallow = fill(folder / "shallow", _SHALLOW)
    with serving(deep) as over_deep, serving(shallow) as over_shallow:
        # Few enough claims that the shallow queue does not run dry.
        seconds = min(scale.seconds, 0.2)
        return in_turn(
            lambda: load(over_deep.port, "next", 1, seconds).median_seconds * 1e6,
            lambda: load(over_shallow.port, "next", 1, seconds).median_seconds * 1e6,
            scale,
            "µs",
        )


FIGURES = [
    Figure(
        name="claim-depth",
        title="claim among all the queued jobs ÷ among 1,000",
        bound=("at most", 1.2),
        run=_claim_time,
    )
]
