"""A snapshot on a medium that cannot be written: what only reads works there as elsewhere."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import cheap, command
from tests.harness.disks import mounted_read_only
from tests.harness.filling import CONFIG, fill, stored
from tests.harness.server import Server
from tests.test_backup import succeeded

JOBS = 40
NOBODY = "65534"

# What a snapshot has of a database, as a server left it: killed, or stopped.
SNAPSHOTS = {
    "killed": (".queuedb", ".queuedb-wal"),
    "killed, with its -shm": (".queuedb", ".queuedb-wal", ".queuedb-shm", ".queuedb.lock"),
    "stopped": (".queuedb", ".queuedb.lock"),
}


@pytest.fixture(scope="module", params=SNAPSHOTS)
def snapshot(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A folder with what a snapshot has; its jobs by their uids."""
    made, kept = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("snapshot")
    server = Server(made, CONFIG).start()
    fill(server.api(), JOBS)
    jobs = {job["uid"]: job for job in server.api().listed()}
    if request.param == "stopped":
        server.stop()
    else:
        server.kill()
    for ending in SNAPSHOTS[request.param]:
        shutil.copy(made / f"jobs{ending}", kept)
    return kept, jobs


@pytest.fixture
def medium(snapshot: tuple[Path, dict[str, Any]], tmp_path: Path) -> Iterator[Path]:
    """The database, where nothing can be written."""
    with mounted_read_only(snapshot[0], tmp_path / "medium") as folder:
        yield folder / "jobs.queuedb"


def test_it_is_verified_audited_and_planned_for(medium: Path, tmp_path: Path) -> None:
    verified = succeeded(command.run("verify", "--db", str(medium)))
    assert verified == f"{JOBS} jobs in 1 queue(s): nothing is damaged\n"
    succeeded(command.run("audit", "--db", str(medium), "--verify"))
    config = tmp_path / "config.yml"
    config.write_text(CONFIG.replace("q:", "other:"))
    planned = command.run("config", "plan", "--config", str(config), "--db", str(medium))
    assert f"- q: {JOBS} job(s) would be lost" in succeeded(planned)
    wrong = command.run("verify", "--db", str(medium), SECRET="wrong")
    assert (wrong.returncode, "SECRET does not open" in wrong.stderr) == (1, True)


def test_it_is_backed_up_restored_and_moved_from(
    medium: Path, snapshot: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    commands: list[tuple[str, ...]] = [
        ("backup", "--db", str(medium)),
        ("restore", str(medium), "--db"),
        ("move", "--db", str(medium), "--to"),
    ]
    for arguments in commands:
        folder = tmp_path / arguments[0]
        folder.mkdir()
        succeeded(command.run(*arguments, str(folder / "jobs.queuedb")))
        assert stored(folder) == snapshot[1]


def test_what_writes_says_that_it_cannot(medium: Path, tmp_path: Path) -> None:
    refused = command.run("rekey", "--db", str(medium), NEW_SECRET="a new secret")
    assert (refused.returncode, "Read-only file system" in refused.stderr) == (1, True)
    server = Server(tmp_path, CONFIG, DB_PATH=str(medium))
    server.launch()
    code, printed = server.result()
    assert (code, "Read-only file system" in printed) == (1, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone may become another user")
def test_a_folder_of_another_user_is_as_good(
    snapshot: tuple[Path, dict[str, Any]],
) -> None:
    folder = snapshot[0]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.chmod(0o666 if path.name in ("jobs.queuedb", "jobs.queuedb-wal") else 0o444)
    folder.chmod(0o555)
    for parent in (each for each in folder.parents if each.name.startswith(("pytest-", "popen-"))):
        parent.chmod(0o755)
    cheap.folder().chmod(0o777)
    database = str(folder / "jobs.queuedb")
    verified = succeeded(command.run("verify", "--db", database, RUN_AS=NOBODY))
    assert verified == f"{JOBS} jobs in 1 queue(s): nothing is damaged\n"
    succeeded(command.run("audit", "--db", database, "--verify", RUN_AS=NOBODY))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
