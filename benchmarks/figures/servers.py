"""JobEngine on PostgreSQL, one server and two, against one on its encrypted file."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from benchmarks.figure import Figure, Result, Scale, in_turn
from benchmarks.figures.calls import connected, woken
from benchmarks.load import BULK, load
from benchmarks.meter import Meter
from benchmarks.peers import postgres
from benchmarks.service import Running, serving

_BULK_CLIENTS = 4
_URL = "postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"


@contextmanager
def _on_postgresql(folder: Path, servers: int) -> Iterator[tuple[list[Running], int]]:
    """That many servers on one database, and the database's port."""
    with ExitStack() as running:
        port = running.enter_context(postgres.serving(folder / "postgresql"))
        yield (
            [
                running.enter_context(serving(folder / str(number), url=_URL.format(port=port)))
                for number in range(servers)
            ],
            port,
        )


def _fill(server: Running, scale: Scale) -> None:
    """More jobs than the loops can use up."""
    load(server.port, "bulk-create", _BULK_CLIENTS, scale.seconds)


def _rate(servers: list[Running], script: str, scale: Scale) -> float:
    ports = [server.port for server in servers]
    if script == "bulk-create":
        return load(ports, script, _BULK_CLIENTS, scale.seconds).rate * BULK
    return load(ports, script, scale.connections, scale.seconds).rate


def _one_against_the_file(script: str) -> Callable[[Scale, Path], Result]:
    def run(scale: Scale, folder: Path) -> Result:
        with _on_postgresql(folder, 1) as (one, port), serving(folder / "file") as file:
            for server in (one[0], file) if script == "loop" else ():
                _fill(server, scale)
            result = in_turn(
                lambda: _rate(one, script, scale),
                lambda: _rate([file], script, scale),
                scale,
                "jobs/s",
            )
            meter = Meter(port, one[0].pid)
            result.notes.append(meter.note(_rate(one, script, scale) * scale.seconds))
            return result

    return run


def _two_against_one(script: str) -> Callable[[Scale, Path], Result]:
    def run(scale: Scale, folder: Path) -> Result:
        with _on_postgresql(folder, 2) as (two, _):
            if script == "loop":
                _fill(two[0], scale)
            return in_turn(
                lambda: _rate(two, script, scale),
                lambda: _rate(two[:1], script, scale),
                scale,
                "jobs/s",
            )

    return run


def _wake(scale: Scale, folder: Path) -> Result:
    """Milliseconds until a waiter wakes for a job that is created on another server."""
    repeats = max(3, int(scale.seconds * 50))
    with _on_postgresql(folder, 2) as ((here, there), _):
        taker, beside, other = connected(here), connected(here), connected(there)
        pairs = [
            (woken(taker, beside, other) * 1e3, woken(taker, beside, beside) * 1e3)
            for _ in range(repeats)
        ]
    above, below = (median(side) for side in zip(*pairs, strict=True))
    return Result(above - below, above, below, "ms")


_TITLES = {"create": "create", "loop": "complete and claim", "bulk-create": f"bulk create, {BULK}"}
_RATES = [
    figure
    for script, title in _TITLES.items()
    for figure in (
        Figure(
            name=f"{script}-postgresql",
            title=f"{title}, one server on PostgreSQL ÷ on the encrypted file",
            bound=None,
            run=_one_against_the_file(script),
            needs=postgres.missing,
        ),
        Figure(
            name=f"{script}-two-servers",
            title=f"{title}, two servers on one PostgreSQL ÷ one",
            bound=None,
            run=_two_against_one(script),
            needs=postgres.missing,
        ),
    )
]
FIGURES = [
    *_RATES,
    Figure(
        name="wake-two-servers",
        title="ms from create to a waiting next's answer on another server less on the same",
        bound=("at most", 2.0),
        run=_wake,
        needs=postgres.missing,
    ),
]
