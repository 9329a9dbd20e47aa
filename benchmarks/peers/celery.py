"""Celery on Redis with appendonly yes, appendfsync always; acks_late, a prefork worker.

With acks_late a job is acknowledged once it is done, so that it outlives a crashed
worker, as a job of JobEngine does. Results are ignored, and the chatter between workers
is off. A prefork worker of as many processes completes no more jobs a second.
"""

import warnings
from importlib import import_module
from pathlib import Path
from threading import Barrier
from typing import Any

from benchmarks.figure import Scale
from benchmarks.peers import redis
from benchmarks.peers.common import CLIENTS, PAYLOAD, Step, drain_rate, rate, workers

SETTING = f"Celery (acks_late, solo pools) on {redis.SETTING}"


def missing() -> str | None:
    """What is not installed, as a sentence."""
    # packaging: the Redis transport imports it, and Celery alone doesn't bring it.
    return redis.missing("celery", "packaging")


def enqueue_rate(scale: Scale, folder: Path) -> float:
    """Jobs a second by `apply_async`, one a call, from CLIENTS processes."""
    with redis.serving(folder) as port:
        return rate(_enqueue, scale.seconds, port)


def work_rate(scale: Scale, folder: Path) -> float:
    """Jobs a second that CLIENTS workers of one process each complete."""
    with redis.serving(folder) as port:
        with redis.unsynced(port):
            rate(_enqueue, scale.seconds, port)
        connection = import_module("redis").Redis(port=port)
        with workers(CLIENTS, _worker, port):
            # What a worker holds, unacknowledged, isn't done.
            return drain_rate(
                lambda: int(connection.llen("q") + connection.hlen("unacked")), scale.seconds
            )


def _app(port: int) -> Any:
    app = import_module("celery").Celery("peer", broker=f"redis://127.0.0.1:{port}/0")
    app.conf.update(
        task_default_queue="q",
        task_acks_late=True,
        task_ignore_result=True,
        broker_connection_retry_on_startup=True,
    )
    return app


def _job(_content: str) -> None:
    """The work of a job: none."""


def _enqueue(port: int) -> Step:
    task = _app(port).task(name="job")(_job)
    content = PAYLOAD.decode()

    def step() -> int:
        task.apply_async((content,))
        return 1

    return step


def _worker(port: int, barrier: Barrier) -> None:
    app = _app(port)
    app.task(name="job")(_job)
    warnings.filterwarnings("ignore", "You're running the worker with superuser")
    arguments = "--quiet worker --pool solo --loglevel ERROR"
    silent = "--without-gossip --without-mingle --without-heartbeat"
    barrier.wait()
    app.worker_main([*arguments.split(), *silent.split()])
