"""One job a call beside other queues, each at its durable setting, in the same run."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from benchmarks.figure import Figure, Result, Scale, in_turn
from benchmarks.load import load
from benchmarks.peers import beanstalkd, celery, huey, pgboss, postgres, rq
from benchmarks.service import fill, serving

_CLAIMS = 20_000  # more jobs a second than the loop can use up
_PEERS: dict[str, ModuleType] = {
    "beanstalkd": beanstalkd,
    "rq": rq,
    "celery": celery,
    "huey": huey,
    "postgres": postgres,
    "pg-boss": pgboss,
}


def _figure(server: str, script: str, peer: str, bound: float | None) -> Figure:
    module = _PEERS[peer]
    rate = module.enqueue_rate if script == "create" else module.work_rate
    what = "create" if script == "create" else "complete and claim"

    def run(scale: Scale, folder: Path) -> Result:
        jobs = 0 if script == "create" else int(_CLAIMS * scale.seconds * scale.rounds)
        fill(folder / "service", jobs)
        with serving(folder / "service", "--server", server) as running:
            result = in_turn(
                lambda: load(running.port, script, scale.connections, scale.seconds).rate,
                lambda: rate(scale, folder / "peer"),
                scale,
                "jobs/s",
            )
        result.notes.append(f"{peer}: {module.SETTING}")
        return result

    return Figure(
        name=f"{script}-{server}-{peer}",
        title=f"{what}, {server} ÷ {peer}",
        bound=None if bound is None else ("at least", bound),
        run=run,
        needs=_needs(server, module.missing),
    )


def _needs(server: str, missing: Callable[[], str | None]) -> Callable[[], str | None]:
    def needs() -> str | None:
        if server == "granian":
            try:
                import granian  # noqa: F401  an optional extra
            except ImportError:
                return "needs granian (pip install 'jobengine[granian]')"
        return missing()

    return needs


FIGURES = [
    _figure("granian", "create", "beanstalkd", 1.0),
    _figure("granian", "loop", "beanstalkd", 1.0),
    *(_figure("waitress", script, peer, None) for peer in _PEERS for script in ("create", "loop")),
]
