"""The black-box tests on servers whose stderr takes nothing, and a disk that comes and goes.

JOBENGINE_TEST_STDERR=full (or closed) runs any test so.
"""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import CHECKOUT
from tests.harness.disks import SmallDisk
from tests.harness.server import Server
from tests.test_crash import CLIENTS, CONFIG, Client, Ledger, check
from tests.test_outages import ready, until_done

FILES = ["life_over_http", "bulk", "waiting", "bad_input", "queues", "listing", "http", "reload"]
# How often the disk is filled and freed.
_ROUNDS = int(os.environ.get("JOBENGINE_TEST_DISK_ROUNDS", "12"))

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stderr", ["full", "closed"])
def test_everything_passes_without_a_log(stderr: str) -> None:
    files = [f"tests/test_{name}.py" for name in FILES]
    # What runs in the tests' own process has no stderr of its own.
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-k", "not application", *files]
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        env=os.environ | {"JOBENGINE_TEST_STDERR": stderr},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-10_000:]
    passed = int(done.stdout.rpartition(" passed")[0].split()[-1])
    assert passed > 500, done.stdout[-1000:]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "small", megabytes=16)
    yield disk
    disk.close()


def test_a_disk_of_database_and_log_that_fills_at_random_loses_nothing(
    tmp_path: Path, small: SmallDisk
) -> None:
    ledger, dice = Ledger(), random.Random(11)
    server = Server(small.folder / "data", CONFIG)
    server.stderr_to = small.folder / "log"
    with server:
        for _ in range(_ROUNDS):
            clients = [
                Client(server.api(), ledger, seed=dice.randrange(1 << 30)) for _ in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            clients[0].join(dice.uniform(0, 0.6))
            small.fill()
            clients[0].join(dice.uniform(0, 0.6))
            if dice.random() < 0.5:
                small.free()
                clients[0].join(dice.uniform(0, 0.3))
                small.fill()
            for client in clients:
                client.stopping = True
            small.free()
            for client in clients:
                client.join()
            api = server.api()
            until_done(lambda: ready(api), 200)  # noqa: B023  of this round
            check(api, ledger)
    assert ledger.refusals["store-failed"] > 0, "the disk was full for some"
    assert len(ledger.known) > 50, "there was load"
    with server:
        check(server.api(), ledger)
    assert b"log lines were lost" in (small.folder / "log").read_bytes()
