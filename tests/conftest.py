"""The fixtures: a server process and an application, each with queues to spare."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobengine.config.environment import read_environment
from jobengine.config.settings import Launch
from jobengine.wsgi import Service
from tests.harness import cheap, depths
from tests.harness.client import Api, HttpTransport, Transport, WsgiTransport
from tests.harness.clock import FileClock
from tests.harness.postgresql import Cluster
from tests.harness.server import SECRET, Server

# The databases that everything is to hold on.
KINDS = ("sqlcipher", "postgresql")
WINDOW = 10 * 60
KEEP = 60 * 60
_SPARE = 2500

CONFIG = (
    "version: 1\nadmins: [admin]\njob_keep_minutes: 60\njob_timeout_minutes: 10\nqueues:\n"
    + "".join(
        f"  queue{index}:\n    read: [reader, both]\n    write: [writer, both]\n"
        for index in range(_SPARE)
    )
)
_names = itertools.count()


@pytest.fixture(scope="session")
def clock(tmp_path_factory: pytest.TempPathFactory) -> FileClock:
    """The clock of the server and of the application; it only goes forward."""
    return FileClock(tmp_path_factory.mktemp("clock") / "now")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A PostgreSQL server.

    Tests kill processes, never the machine: what was written is there without an fsync, which
    is most of what a commit takes.
    """
    with Cluster(tmp_path_factory.mktemp("postgresql"), fsync="off") as running:
        yield running


class Databases:
    """Makes empty databases of both kinds, as the environment that names them."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def env(self, kind: str) -> dict[str, str]:
        """What to add to the environment: nothing for a file in the server's own folder."""
        if kind == "sqlcipher":
            return {}
        cluster: Cluster = self._request.getfixturevalue("cluster")
        return {"DATABASE_URL": cluster.new_database()}


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Databases:
    """Where to get databases from."""
    return Databases(request)


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, databases: Databases) -> dict[str, Any]:
    """An empty database of each kind, as the environment that names it."""
    return databases.env(request.param)


class Running:
    """Server processes and applications, each made when it is first asked for."""

    def __init__(
        self, folders: pytest.TempPathFactory, clock: FileClock, databases: Databases
    ) -> None:
        self._folders, self._clock, self._databases = folders, clock, databases
        self._servers: dict[tuple[str, str], Server] = {}
        self._services: dict[str, tuple[Service, dict[str, str]]] = {}

    def server(self, kind: str, http: str = "waitress") -> Server:
        """A server process with the queues of CONFIG."""
        if (kind, http) not in self._servers:
            folder, env = self._folders.mktemp("server"), self._databases.env(kind)
            arguments = ("--server", http)
            made = Server(folder, CONFIG, clock_file=self._clock.path, arguments=arguments, **env)
            self._servers[kind, http] = made.start()
        return self._servers[kind, http]

    def service(self, kind: str) -> Service:
        """A service in this process whose duties never run: nothing waits for the sweeps."""
        if kind not in self._services:
            folder, env = self._folders.mktemp("service"), self._databases.env(kind)
            (folder / "config.yml").write_text(CONFIG, encoding="utf-8")
            env = env_in(folder, **env)
            self._services[kind] = Service(read_environment(env), self._clock), env
        return self._services[kind][0]

    def stop(self) -> None:
        """Ends them all, and counts their jobs."""
        for server in self._servers.values():
            server.stop()
            depths.check(server.env)
        for service, env in self._services.values():
            service.stop()
            depths.check(env)


@pytest.fixture(scope="session")
def running(
    tmp_path_factory: pytest.TempPathFactory,
    clock: FileClock,
    databases: Databases,
    cluster: Cluster,  # which is to outlive them
) -> Iterator[Running]:
    """What is running already."""
    all_ = Running(tmp_path_factory, clock, databases)
    yield all_
    all_.stop()


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest, running: Running) -> Server:
    """A server process with the queues of CONFIG, on each kind of database."""
    return running.server(request.param)


@pytest.fixture(scope="session")
def granian_server(running: Running) -> Server:
    """As `server`, with granian for its HTTP."""
    return running.server("sqlcipher", "granian")


@pytest.fixture(scope="session", params=KINDS)
def service(request: pytest.FixtureRequest, running: Running) -> Service:
    """A service in this process, on each kind of database."""
    return running.service(request.param)


def next_queue() -> str:
    """The name of a queue that has not been used yet."""
    number = next(_names)
    assert number < _SPARE, "raise _SPARE: the tests need more queues"
    return f"queue{number}"


def launch_in(folder: Path, **env: str) -> Launch:
    """A Launch with everything in the folder."""
    return read_environment(env_in(folder, **env))


def env_in(folder: Path, **env: str) -> dict[str, str]:
    """The environment of a Launch with everything in the folder."""
    return {
        "SECRET": SECRET,
        "CONFIG_PATH": str(folder / "config.yml"),
        "DB_PATH": str(folder / "jobs.queuedb"),
        **env,
    }


@pytest.fixture
def queue() -> str:
    """The name of a queue that no other test uses."""
    return next_queue()


@pytest.fixture(
    params=[
        ("waitress", "sqlcipher"),
        ("granian", "sqlcipher"),
        ("application", "sqlcipher"),
        ("waitress", "postgresql"),
        ("application", "postgresql"),
    ],
    ids="-".join,
)
def transport(request: pytest.FixtureRequest, running: Running) -> Iterator[Transport]:
    """The way to a server: over HTTP to a process with duties, or into an app without."""
    way, kind = request.param
    if way == "application":
        yield WsgiTransport(running.service(kind).app)
        return
    http = HttpTransport(running.server(kind, way).port)
    yield http
    http.close()


@pytest.fixture
def api(transport: Transport, queue: str) -> Api:
    """A client of an empty queue, for a service that may read and write it."""
    return Api(transport, queue)


@pytest.fixture(autouse=True, scope="session")
def _cheap() -> None:
    cheap.make_cheap(cheap.folder())


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger().setLevel(logging.ERROR)
