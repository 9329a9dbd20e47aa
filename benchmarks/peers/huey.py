"""huey on SqliteHuey with fsync=True: journal_mode=wal, synchronous=full.

A dequeue deletes the task in one commit, before it runs: a completed job costs one
fsync, and a worker that crashes loses its job.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.figure import Scale
from benchmarks.peers.common import PAYLOAD, Step, lacking, rate, scratch

SETTING = "huey, SqliteHuey with fsync=True"

_FILL = 5_000  # jobs for each second of work


def missing() -> str | None:
    """What is not installed, as a sentence."""
    return lacking({}, ("huey",))


def enqueue_rate(scale: Scale, folder: Path) -> float:
    """Jobs a second by `huey.enqueue`, one a call, from CLIENTS processes."""
    with scratch(folder) as data:
        return rate(_enqueue, scale.seconds, data / "huey.db")


def work_rate(scale: Scale, folder: Path) -> float:
    """Jobs a second that CLIENTS processes dequeue and execute."""
    with scratch(folder) as data:
        path = data / "huey.db"
        huey, task = _huey(path, fsync=False)
        for _ in range(int(scale.seconds * _FILL)):
            huey.enqueue(task.s(PAYLOAD))
        huey.storage.close()
        return rate(_work, scale.seconds, path)


def _job(_content: bytes) -> None:
    """The work of a job: none."""


def _huey(path: Path, *, fsync: bool = True) -> tuple[Any, Any]:
    """A huey on the database, and its task."""
    huey = import_module("huey").SqliteHuey("q", filename=str(path), fsync=fsync, results=False)
    return huey, huey.task(name="job")(_job)


def _enqueue(path: Path) -> Step:
    huey, task = _huey(path)

    def step() -> int:
        huey.enqueue(task.s(PAYLOAD))
        return 1

    return step


def _work(path: Path) -> Step:
    huey, _ = _huey(path)

    def step() -> int:
        task = huey.dequeue()
        if task is None:
            return 0
        huey.execute(task)
        return 1

    return step
