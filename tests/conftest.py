"""The fixtures: a server process and an application, each with queues to spare."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobengine.config.environment import read_environment
from jobengine.config.settings import Launch
from jobengine.wsgi import Service
from tests.harness.client import Api, HttpTransport, Transport, WsgiTransport
from tests.harness.clock import FileClock
from tests.harness.server import SECRET, Server

WINDOW = 10 * 60
KEEP = 60 * 60
_SPARE = 2000

CONFIG = "version: 1\njob_keep_minutes: 60\njob_timeout_minutes: 10\nqueues:\n" + "".join(
    f"  queue{index}:\n    read: [reader, both]\n    write: [writer, both]\n"
    for index in range(_SPARE)
)
_names = itertools.count()


@pytest.fixture(scope="session")
def clock(tmp_path_factory: pytest.TempPathFactory) -> FileClock:
    """The clock of the server and of the application; it only goes forward."""
    return FileClock(tmp_path_factory.mktemp("clock") / "now")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, clock: FileClock) -> Iterator[Server]:
    """A server process with the queues of CONFIG."""
    with Server(tmp_path_factory.mktemp("server"), CONFIG, clock_file=clock.path) as running:
        yield running


@pytest.fixture(scope="session")
def granian_server(tmp_path_factory: pytest.TempPathFactory, clock: FileClock) -> Iterator[Server]:
    """As `server`, with granian for its HTTP."""
    folder, granian = tmp_path_factory.mktemp("granian"), ("--server", "granian")
    with Server(folder, CONFIG, clock_file=clock.path, arguments=granian) as running:
        yield running


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, clock: FileClock) -> Iterator[Service]:
    """A service in this process whose duties never run: nothing waits for the sweeps."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "config.yml").write_text(CONFIG, encoding="utf-8")
    running = Service(launch_in(folder), clock)
    yield running
    running.stop()


def next_queue() -> str:
    """The name of a queue that has not been used yet."""
    number = next(_names)
    assert number < _SPARE, "raise _SPARE: the tests need more queues"
    return f"queue{number}"


def launch_in(folder: Path, **env: str) -> Launch:
    """A Launch with everything in the folder."""
    return read_environment(
        {
            "SECRET": SECRET,
            "CONFIG_PATH": str(folder / "config.yml"),
            "DB_PATH": str(folder / "jobs.queuedb"),
            **env,
        }
    )


@pytest.fixture
def queue() -> str:
    """The name of a queue that no other test uses."""
    return next_queue()


@pytest.fixture(params=["waitress", "granian", "application"])
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """The way to a server: over HTTP to a process with duties, or into an app without."""
    servers = {"waitress": "server", "granian": "granian_server"}
    if request.param == "application":
        yield WsgiTransport(request.getfixturevalue("service").app)
        return
    http = HttpTransport(request.getfixturevalue(servers[request.param]).port)
    yield http
    http.close()


@pytest.fixture
def api(transport: Transport, queue: str) -> Api:
    """A client of an empty queue, for a service that may read and write it."""
    return Api(transport, queue)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger().setLevel(logging.ERROR)
