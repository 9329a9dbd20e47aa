"""SECRET, keys and passwords: in no log, no error, no process list and no core file."""

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.harness.client import HttpTransport
from tests.harness.command import run
from tests.harness.postgresql import Cluster
from tests.harness.server import Server

SECRET, KEY, PASSWORD, PAYLOAD = "secret-needle", "key-needle", "password-needle", "payload-needle"
HTTP = ("waitress", "granian")
NEEDLES = (SECRET, KEY, PASSWORD, PAYLOAD)
CONFIG = "version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n"
PATTERN = Path("/proc/sys/kernel/core_pattern")

proc = pytest.mark.skipif(not PATTERN.exists(), reason="there is no /proc: this is not Linux")
root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone may look into the server's process")


def found_in(text: str) -> list[str]:
    return [needle for needle in NEEDLES if needle in text]


@pytest.fixture(params=HTTP)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server that logs everything, and may leave core files where it was started."""
    with talkative(tmp_path, request.param) as server:
        yield server


@pytest.fixture(scope="module", params=HTTP)
def seen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """As `server`, for those who only look at its process."""
    with talkative(tmp_path_factory.mktemp("seen"), request.param) as server:
        yield server


def talkative(folder: Path, http: str) -> Server:
    arguments = ("--server", http)
    server = Server(folder, CONFIG, arguments=arguments, SECRET=SECRET, LOG_LEVEL="debug")
    server.env["PYTHONPATH"] = str(server.cwd)
    server.cwd, server.cores = folder, True
    return server


@proc
def test_it_leaves_no_core_file(server: Server, tmp_path: Path) -> None:
    if not PATTERN.read_text().startswith("core"):
        pytest.skip("core files of this machine do not go to the folder of their process")
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("core files are forbidden to all processes here")
    server.api().create({"a": PAYLOAD})
    server.process.send_signal(signal.SIGABRT)
    code, _ = server.result()
    assert code == -signal.SIGABRT
    assert list(tmp_path.glob("core*")) == []


@proc
def test_its_limits_allow_many_connections_and_no_core(seen: Server) -> None:
    lines = Path(f"/proc/{seen.process.pid}/limits").read_text().splitlines()
    limits = {line[:26].strip(): line[26:].split() for line in lines}
    assert limits["Max core file size"][:2] == ["0", "0"]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert int(limits["Max open files"][0]) >= min(8192, most)


@proc
def test_nobody_but_root_may_look_into_the_process(seen: Server) -> None:
    """A process that is not dumpable belongs to root, for all that /proc says of it."""
    assert Path(f"/proc/{seen.process.pid}/mem").stat().st_uid == 0
    if os.geteuid() != 0:
        with pytest.raises(PermissionError):
            Path(f"/proc/{seen.process.pid}/environ").read_bytes()


@proc
def test_the_command_line_has_nothing_secret(seen: Server) -> None:
    assert found_in(Path(f"/proc/{seen.process.pid}/cmdline").read_text()) == []


@proc
@root
@pytest.mark.parametrize("kind", ["sqlcipher", "postgresql"])
def test_the_environment_of_the_process_is_wiped(
    tmp_path: Path, cluster: Cluster, kind: str
) -> None:
    url = cluster.new_database().replace("postgres@", f"postgres:{PASSWORD}@")
    env: dict[str, Any] = {"DATABASE_URL": url} if kind == "postgresql" else {}
    server = Server(tmp_path, CONFIG, SECRET=SECRET, **env)
    server.executed = True
    with server:
        shown = Path(f"/proc/{server.process.pid}/environ").read_text()
        assert "CONFIG_PATH=" in shown
        assert found_in(shown) == []


def raw(server: Server, *requests: bytes) -> None:
    for request in requests:
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection,
            contextlib.suppress(OSError),
        ):
            connection.sendall(request)
            while connection.recv(65536):
                pass


def bad_calls(server: Server) -> None:
    """Calls with a key in every place that it does not belong to."""
    key, line = f"Bearer je_{KEY}", b"Host: localhost\r\nConnection: close\r\nX-Queue: q\r\n"
    raw(
        server,
        b"GET /api/v1/jobs HTTP/1.1\r\n%bAuthorization: %b\r\n\r\n" % (line, key.encode()),
        b"GET /api/v1/jobs HTTP/1.1\r\n%bAuthorization: %b\r\nAuthorization: x\r\n\r\n"
        % (line, key.encode()),
        b"GET /api/v1/jobs HTTP/1.1\r\n%bAuthorization : %b\r\n\r\n" % (line, key.encode()),
        b"GET /api/v1/jobs HTTP/1.1\r\n%bAuthorization: \xff%b\r\n\r\n" % (line, key.encode()),
        b"GET /api/v1/jobs?key=%b HTTP/1.1\r\n%b\r\n" % (KEY.encode(), line),
    )
    client = HttpTransport(server.port)
    names = {"X-Name": "a", "X-Queue": "q", "Authorization": key, "Connection": "close"}
    bodies = (
        b'{"content": {"a": "%b"}, "valid_for": "%b", "priority": 1}',
        b'{"content": {"a": "%b"}, "valid_for": 9, "priority": 1, "%b": 0}',
        b'{"content": {"a": "%b"}, "%b',
        b'{"content": {"a": "%b\xff"}, "x": "%b"}',
    )
    for body in bodies:
        path, payload = "/api/v1/jobs/create", PAYLOAD.encode()
        answer = client.send("PUT", path, names, body.replace(b"%b", payload))
        assert answer.status == 400
        client.close()


def test_a_debug_log_has_no_key_and_no_payload(server: Server) -> None:
    """Whatever is wrong with the calls that carry them."""
    bad_calls(server)
    api = server.api()
    uid = api.create({"a": PAYLOAD}).json()["uid"]
    assert api.update(uid, content={"b": PAYLOAD}).status == 200
    assert server.stop() == 0
    assert "request" in [event["event"] for event in server.log]
    assert found_in(server.stderr) == []


@pytest.mark.parametrize("command", [("config", "plan"), ("move", "--to", "other.queuedb")])
def test_a_wrong_secret_is_not_printed(tmp_path: Path, command: tuple[str, ...]) -> None:
    with Server(tmp_path, CONFIG, SECRET="another") as server:
        server.api().create({"a": PAYLOAD})
    places = {"CONFIG_PATH": str(server.config), "DB_PATH": str(server.database)}
    ended = run(*command, SECRET=SECRET, LOG_LEVEL="debug", **places)
    assert ended.returncode == 1
    assert "SECRET does not open" in ended.stderr
    assert found_in(ended.stderr + ended.stdout) == []
    server = Server(tmp_path, CONFIG, SECRET=SECRET, LOG_LEVEL="debug")
    server.launch()
    code, printed = server.result()
    assert code == 1
    assert found_in(printed) == []


def test_errors_of_postgresql_show_no_payload_and_no_password(
    tmp_path: Path, cluster: Cluster
) -> None:
    """Its DETAIL lines have the row that failed: what is in it is sealed."""
    url = cluster.new_database().replace("postgres@", f"postgres:{PASSWORD}@")
    database = url.rpartition("/")[2]
    with Server(tmp_path, CONFIG, DATABASE_URL=url, SECRET=SECRET, LOG_LEVEL="debug") as server:
        api = server.api()
        made = api.made(content={"a": PAYLOAD})
        with cluster.connect(database) as other:
            other.execute("ALTER TABLE job ADD CONSTRAINT thirteen CHECK (priority <> 13)")
        for answer in (
            api.create({"a": PAYLOAD}, priority=13),
            api.update(made["uid"], priority=13, content={"b": PAYLOAD}),
        ):
            assert answer.status == 503
            assert "thirteen" not in answer.body.decode()
        with contextlib.suppress(psycopg.Error):
            cluster.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                database,
            )
        api.create({"a": PAYLOAD})
    assert "thirteen" in server.stderr
    assert found_in(server.stderr) == []
    assert PAYLOAD.encode().hex() not in server.stderr


def test_an_error_of_the_file_shows_no_payload(tmp_path: Path) -> None:
    server = Server(tmp_path, CONFIG, SECRET=SECRET, LOG_LEVEL="debug")
    server.file_size_limit = 600_000
    with server:
        answers = [server.api().create({"a": PAYLOAD * 1000}) for _ in range(60)]
        assert 503 in {answer.status for answer in answers}
    assert "commit failed" in server.stderr
    assert found_in(server.stderr) == []


def test_every_database_has_a_salt_of_its_own(tmp_path: Path, cluster: Cluster) -> None:
    salts = []
    for name in ("one", "two"):
        url = cluster.new_database()
        salts.append(made_by_a_server(tmp_path / name).read_bytes()[:16])
        made_by_a_server(tmp_path / f"{name} on postgresql", DATABASE_URL=url)
        ((salt,),) = cluster.execute_in(url, "SELECT salt FROM master_key")
        salts.append(bytes(salt))
    assert {len(salt) for salt in salts} == {16}
    assert len(set(salts)) == 4


def made_by_a_server(folder: Path, **env: Any) -> Path:
    """A database that a server has made, executed: others get a salt that tests know."""
    server = Server(folder, CONFIG, **env)
    server.executed = True
    with server:
        server.api().made()
    return server.database
