"""A JobEngine server process to put load on, and databases filled beforehand."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uuid_utils

from benchmarks.peers.common import free_port, listens
from jobengine.domain.queue import Queue
from jobengine.store.migrate import upgrade
from jobengine.store.sqlcipher.database import SqlcipherFile
from jobengine.store.tables.queues import Times, WantedQueue, reconcile
from jobengine.store.writing.batch import Batch
from jobengine.store.writing.operations import Create, NewJob

SECRET = "benchmark"  # noqa: S105  of a file that is thrown away
QUEUES = ("q", "idle")
CONFIG = "version: 1\nqueues:\n" + "".join(
    f"  {name}: {{read: ['*'], write: ['*']}}\n" for name in QUEUES
)
ANYONE = frozenset("*")
_CHUNK = 500


@dataclass
class Running:
    """A server that listens."""

    port: int
    pid: int


@contextmanager
def serving(folder: Path, *arguments: str, url: str = "", settings: str = "") -> Iterator[Running]:
    """A server process on the database of the URL, or in the folder; it makes its tables.

    `settings` are lines of the config.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yml").write_text(settings + CONFIG)
    port = free_port()
    env = {
        **os.environ,
        "SECRET": SECRET,
        "CONFIG_PATH": str(folder / "config.yml"),
        "DB_PATH": str(folder / "jobs.queuedb"),
        "DATABASE_URL": url,
        "GIN_MODE": "release",  # no line a request: the peers write none either
        "LOG_LEVEL": "",
    }
    command = [sys.executable, "-m", "jobengine", "serve", "--port", str(port), *arguments]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stderr=log)
    try:
        while not listens(port):
            if process.poll() is not None:
                raise RuntimeError(f"no start:\n{(folder / 'log').read_text()}")
            time.sleep(0.005)
        yield Running(port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def fill(folder: Path, jobs: int, *, mixed: bool = False) -> Path:
    """Makes a database with that many queued jobs, of mixed priorities or one; gives the folder.

    They go in by the store's own path, 500 a commit, and stay for later calls.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, done = folder / "jobs.queuedb", folder / f"filled-{jobs}"
    if done.exists():
        return folder
    path.unlink(missing_ok=True)
    file = SqlcipherFile(path, SECRET.encode())
    upgrade(file)
    wanted = [WantedQueue(name, ANYONE, ANYONE, 600, 3600) for name in QUEUES]
    with file.writer.begin() as connection:
        queues = reconcile(connection, wanted, Times(600, 3600), 0).queues
    (queue,) = (queue for queue in queues if queue.name == QUEUES[0])
    for first in range(0, jobs, _CHUNK):
        with file.writer.begin() as connection:
            made = _some(queue, first, min(_CHUNK, jobs - first), mixed)
            Batch(connection, file.contents, 0).run([made])
    file.close()
    done.touch()
    return folder


def _some(queue: Queue, first: int, jobs: int, mixed: bool) -> Create:
    now = int(time.time())
    return Create(
        queue,
        [
            NewJob(
                uid=uuid_utils.uuid7().bytes,
                priority=1 + (number * 37) % 100 if mixed else 50,
                created=now,
                timeout_time=now + 1_000_000,
                valid_for=1_000_000,
                content=b'{"job":"content"}',
            )
            for number in range(first, first + jobs)
        ],
    )
