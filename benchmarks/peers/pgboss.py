"""pg-boss, on PostgreSQL with fsync=on, synchronous_commit=on, from one Node process.

Node finds pg-boss in `node_modules` of the folder that JOBENGINE_PEERS_NODE names, or in
NODE_PATH.
"""

import os
import subprocess
from pathlib import Path

from benchmarks.figure import Scale
from benchmarks.peers import postgres
from benchmarks.peers.common import CLIENTS, lacking

SETTING = "pg-boss on PostgreSQL with fsync=on, synchronous_commit=on"

_SCRIPT = Path(__file__).with_suffix(".mjs")


def missing() -> str | None:
    """What is not installed, as a sentence."""
    return lacking({"node": "nodejs"}) or postgres.missing() or _package_missing()


def bulk_enqueue_rate(scale: Scale, folder: Path) -> float:
    """Jobs a second by `insert` of 500 a call, CLIENTS calls at a time."""
    return _measured("insert", scale, folder)


def enqueue_rate(scale: Scale, folder: Path) -> float:
    """Jobs a second by `send`, one a call, CLIENTS calls at a time."""
    return _measured("send", scale, folder)


def work_rate(scale: Scale, folder: Path) -> float:
    """Jobs a second by `fetch` of one, then `complete`, CLIENTS at a time."""
    return _measured("work", scale, folder)


def _package_missing() -> str | None:
    folders = [os.environ.get("JOBENGINE_PEERS_NODE", "") + "/node_modules"]
    folders += os.environ.get("NODE_PATH", "").split(os.pathsep)
    if any((Path(folder) / "pg-boss").is_dir() for folder in folders if folder):
        return None
    return "needs pg-boss (npm install pg-boss, in the folder that JOBENGINE_PEERS_NODE names)"


def _measured(mode: str, scale: Scale, folder: Path) -> float:
    with postgres.serving(folder) as port:
        env = {"PORT": str(port), "MODE": mode, "SECONDS": str(scale.seconds)}
        done = subprocess.run(
            ["node", str(_SCRIPT)],  # noqa: S607  whichever node is on PATH
            env={**os.environ, **env, "CALLERS": str(CLIENTS)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"pg-boss failed:\n{done.stderr}")
    return float(done.stdout)
