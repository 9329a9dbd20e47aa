"""Slow clients: what they take from the others, and for how long they can keep them out."""

from pathlib import Path
from statistics import median

from benchmarks.figure import TINY, Figure, Result, Scale, in_turn
from benchmarks.load import TEST, load
from benchmarks.service import fill, serving
from benchmarks.slow import KINDS, seconds_to_an_answer, slow

_SLOW = 500
# More than the server takes at once (http_server.py).
_TOO_MANY = 1100
_LISTED = 20_000
_REQUEST_SECONDS = 5
_PATIENCE_SECONDS = 60
_TITLES = {
    "heads": "create beside 500 clients that send a head a byte a second ÷ with none",
    "bodies": "create beside 500 clients that send a body a byte a second ÷ with none",
    "readers": "create beside 500 clients that take a long list a byte a second ÷ with none",
}


def _beside(kind: str, scale: Scale, folder: Path) -> Result:
    """Creates a second beside slow clients ÷ with none; the latencies in a note."""
    latencies: dict[bool, list[float]] = {True: [], False: []}
    with serving(fill(folder, min(_LISTED, scale.jobs))) as server:

        def rate(*, beside: bool) -> float:
            result = load(server.port, "create", scale.connections, scale.seconds)
            latencies[beside].append(result.median_seconds)
            return result.rate

        def beside() -> float:
            with slow(server.port, kind, 20 if scale is TINY else _SLOW):
                return rate(beside=True)

        result = in_turn(beside, lambda: rate(beside=False), scale, "creates/s")
    ratio = median(a / b for a, b in zip(latencies[True], latencies[False], strict=True))
    result.notes.append(f"median latency ÷ with none: {ratio:.2f}")
    return result


def _full(scale: Scale, folder: Path) -> Result:
    """Seconds until a new client is answered where slow ones hold every connection."""
    clients = 20 if scale is TINY else _TOO_MANY
    settings = f"request_seconds: {_REQUEST_SECONDS}\n"
    with serving(folder, settings=settings) as server:
        alone = seconds_to_an_answer(server.port, TEST, _PATIENCE_SECONDS)
        with slow(server.port, "heads", clients):
            waited = seconds_to_an_answer(server.port, TEST, _PATIENCE_SECONDS)
    notes = [f"with none it was answered in {alone * 1e3:.0f} ms"]
    return Result(waited / _REQUEST_SECONDS, waited, _REQUEST_SECONDS, "s", notes)


FIGURES = [
    *(
        Figure(
            name=f"slow-{kind}",
            title=_TITLES[kind],
            bound=None,
            run=lambda scale, folder, kind=kind: _beside(kind, scale, folder),  # type: ignore[misc]  # a default that binds the loop's variable
        )
        for kind in KINDS
    ),
    Figure(
        name="slow-full",
        title=f"a new client's wait beside {_TOO_MANY} slow heads ÷ request_seconds",
        bound=("at most", 2.0),
        run=_full,
    ),
]
