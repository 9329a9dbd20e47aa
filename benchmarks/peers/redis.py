"""Redis with appendonly yes and appendfsync always: what RQ and Celery run on here."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from benchmarks.peers.common import free_port, lacking, listens, scratch, server

SETTING = "Redis with appendonly yes, appendfsync always"


def missing(*packages: str) -> str | None:
    """What is not installed for those Python packages on Redis, as a sentence."""
    return lacking({"redis-server": "redis-server"}, ("redis", *packages))


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """A Redis of its own, with its files in the folder for as long; gives its port."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    with (
        scratch(folder) as data,
        server([*command, "--dir", str(data)], data / "printed.txt", lambda: listens(port)),
    ):
        yield port


@contextmanager
def unsynced(port: int) -> Iterator[None]:
    """Without fsync for the block, to fill a queue that is worked off with it."""
    connection = import_module("redis").Redis(port=port)
    connection.config_set("appendfsync", "no")
    yield
    connection.config_set("appendfsync", "always")
    connection.close()
