"""A server with users of every role, and their browsers."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import KINDS, Databases
from tests.harness.browser import Browser
from tests.harness.client import Api
from tests.harness.clock import FileClock
from tests.harness.house import House, config
from tests.harness.postgresql import Cluster
from tests.harness.server import Server


@pytest.fixture(scope="session", params=KINDS)
def house(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    databases: Databases,
    cluster: Cluster,  # which is to outlive it
) -> Iterator[House]:
    """A server with users of every role, on each kind of database."""
    folder = tmp_path_factory.mktemp("dashboard")
    clock = FileClock(folder / "now")
    env: Any = databases.env(request.param)
    with Server(folder, config(), clock_file=clock.path, **env) as server:
        made = House(server, clock)
        made.add_users()
        yield made


@pytest.fixture
def api(house: House) -> Api:
    """A client of an empty queue."""
    return house.queue()


@pytest.fixture
def oz(house: House) -> Browser:
    """An operator's browser."""
    return house.browser("oz")


@pytest.fixture
def ann(house: House) -> Browser:
    """An admin's browser."""
    return house.browser("ann")
