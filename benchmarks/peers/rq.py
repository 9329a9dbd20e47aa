"""RQ on Redis with appendonly yes, appendfsync always; SimpleWorker, which doesn't fork.

An enqueue and each step of a worker are pipelines of several Redis writes.
"""

from importlib import import_module
from pathlib import Path
from threading import Barrier
from typing import Any

from benchmarks.figure import Scale
from benchmarks.peers import redis
from benchmarks.peers.common import CLIENTS, PAYLOAD, Step, drain_rate, rate, workers

SETTING = f"RQ (SimpleWorker) on {redis.SETTING}"


def missing() -> str | None:
    """What is not installed, as a sentence."""
    return redis.missing("rq")


def enqueue_rate(scale: Scale, folder: Path) -> float:
    """Jobs a second by `queue.enqueue`, one a call, from CLIENTS processes."""
    with redis.serving(folder) as port:
        return rate(_enqueue, scale.seconds, port)


def work_rate(scale: Scale, folder: Path) -> float:
    """Jobs a second that CLIENTS processes of one SimpleWorker each complete."""
    with redis.serving(folder) as port:
        with redis.unsynced(port):
            rate(_enqueue, scale.seconds, port)
        queue = _queue(port)
        with workers(CLIENTS, _worker, port):
            return drain_rate(lambda: int(queue.count), scale.seconds)


def job(_content: bytes) -> None:
    """The work of a job: none."""


def _queue(port: int) -> Any:
    return import_module("rq").Queue("q", connection=import_module("redis").Redis(port=port))


def _enqueue(port: int) -> Step:
    queue = _queue(port)

    def step() -> int:
        queue.enqueue(f"{__name__}.job", PAYLOAD)
        return 1

    return step


def _worker(port: int, barrier: Barrier) -> None:
    queue = _queue(port)
    worker = import_module("rq").SimpleWorker([queue], connection=queue.connection)
    barrier.wait()
    worker.work(burst=True, logging_level="WARNING")
