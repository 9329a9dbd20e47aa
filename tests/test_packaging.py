"""The package as it is installed, and the schema by hand."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.harness import CHECKOUT
from tests.harness.server import SECRET, Server

QUEUES = "version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel of this checkout installs."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "hatchling",
            "build",
            "--target",
            "wheel",
            "--directory",
            str(folder),
        ],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    installed = folder / "installed"
    with zipfile.ZipFile(built) as archive:
        archive.extractall(installed)
    return installed


def alembic(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alembic", *words],
        cwd=folder,
        env={**os.environ, "SECRET": SECRET, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_installed_wheel_serves_with_its_own_migrations_and_pages(
    wheel: Path, tmp_path: Path
) -> None:
    assert (wheel / "jobengine" / "py.typed").exists()
    server = Server(tmp_path, QUEUES, PYTHONPATH=str(wheel))
    server.cwd = tmp_path
    with server:
        assert server.api().create().status == 201
        for path in ("/docs", "/docs/style.css"):
            assert server.http().send("GET", path, {}, None).status == 200
        opened = Path(f"/proc/{server.process.pid}/cwd").readlink()
        assert opened == tmp_path, "away from the checkout"


def test_alembic_upgrades_by_hand_with_the_servers_environment(wheel: Path, tmp_path: Path) -> None:
    for name, folder, config, path in (
        ("checkout", CHECKOUT, (), None),
        ("wheel", tmp_path, ("-c", str(wheel / "jobengine" / "alembic.ini")), str(wheel)),
    ):
        database = tmp_path / name / "jobs.queuedb"
        env = {"DB_PATH": str(database)} | ({} if path is None else {"PYTHONPATH": path})
        done = alembic(folder, *config, "upgrade", "head", **env)
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
        assert database.read_bytes()[:6] != b"SQLite"
        with Server(tmp_path / name, QUEUES) as server:
            assert server.api().create().status == 201


def test_alembic_is_refused_beside_a_server(tmp_path: Path) -> None:
    with Server(tmp_path, QUEUES) as server:
        done = alembic(CHECKOUT, "upgrade", "head", DB_PATH=str(server.database))
        assert done.returncode != 0
        assert f"in use by process {server.process.pid}" in done.stderr


def test_alembic_without_a_secret_says_how_to_set_it(tmp_path: Path) -> None:
    done = alembic(CHECKOUT, "upgrade", "head", DB_PATH=str(tmp_path / "d"), SECRET="")
    assert done.returncode != 0
    assert "export SECRET=" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--help"], ["serve", "Examples:"]),
        (["serve", "--help"], ["SECRET_FILE", "CONFIG_PATH", "Exit codes:", "Examples:", "--port"]),
        (["--version"], ["jobengine"]),
    ],
)
def test_the_command_explains_itself(words: list[str], expected: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobengine", *words], capture_output=True, text=True, check=True
    )
    for text in expected:
        assert text in done.stdout


@pytest.mark.parametrize("words", [["nonsense"], ["serve", "--nonsense"], ["serve", "extra"]])
def test_a_wrong_command_line_exits_2_on_stderr(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobengine", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "--help" in done.stderr
