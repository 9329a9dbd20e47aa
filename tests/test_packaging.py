"""The package as it is installed, and the schema by hand."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import requires
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

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


def health_check(port: int) -> int:
    """The exit code of the image's health check, for a server on the port."""
    text = (CHECKOUT / "Dockerfile").read_text()
    found = re.search(r"HEALTHCHECK.*?CMD (\[.*?\])\n", text, re.DOTALL)
    assert found is not None
    words: list[str] = json.loads(found[1])
    assert "6010" in words[-1]
    nobody = "http://127.0.0.1:9"
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), nobody)
    return subprocess.run(
        [sys.executable, *words[1:-1], words[-1].replace("6010", str(port))],
        env={**os.environ, **proxies, "no_proxy": ""},
        capture_output=True,
        check=False,
    ).returncode


def test_the_images_health_check_asks_the_server_and_no_proxy(tmp_path: Path) -> None:
    with Server(tmp_path, QUEUES) as server:
        assert health_check(server.port) == 0
    assert health_check(server.port) == 1, "nobody is there"


def test_the_images_health_check_fails_where_the_server_is_not_ready() -> None:
    class Unready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Unready) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            assert health_check(server.server_port) == 1
        finally:
            server.shutdown()
            thread.join()


def test_compose_publishes_on_this_machine_alone() -> None:
    services = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports == ["${JOBENGINE_ADDRESS:-127.0.0.1}:6010:6010"] * 2


SQLCIPHERS = [
    ("linux", "x86_64", "sqlcipher3-binary"),
    ("linux", "aarch64", "sqlcipher3"),
    ("darwin", "arm64", "sqlcipher3"),
    ("darwin", "x86_64", "sqlcipher3"),
]


def required() -> list[str]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"])


@pytest.mark.parametrize(("system", "machine", "expected"), SQLCIPHERS)
def test_each_machine_gets_one_sqlcipher(system: str, machine: str, expected: str) -> None:
    environment = {"sys_platform": system, "platform_machine": machine}
    found = [
        requirement.name
        for requirement in map(Requirement, required())
        if requirement.marker is None or requirement.marker.evaluate(environment)
    ]
    assert [name for name in found if name.startswith("sqlcipher3")] == [expected]


def test_the_steps_for_alpine_leave_out_sqlcipher_and_nothing_else() -> None:
    text = (CHECKOUT / "docs" / "operations.md").read_text()
    found = re.search(r'<!-- alpine -->.*?python -c "(.*?)" >', text, re.DOTALL)
    assert found is not None
    listed = subprocess.run(
        [sys.executable, "-c", found[1]], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    wanted = [line for line in requires("jobengine") or () if "extra ==" not in line]
    left_out = {line for line in wanted if line.startswith("sqlcipher3")}
    assert len(left_out) == 2
    assert set(listed) == set(wanted) - left_out
