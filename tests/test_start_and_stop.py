"""The process: how it starts, what it refuses, and how it ends."""

import http.client
import json
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.client import Api, JobDict
from tests.harness.server import SECRET, Server

QUEUES = "version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n  other: {read: [a], write: [b]}\n"


def run(folder: Path, config: str | None = None, *arguments: str, **env: str) -> tuple[int, str]:
    """Starts a server that is to end by itself; its exit code and stderr."""
    server = Server(folder, config, arguments=arguments)
    server.env.update(env)
    server.launch()
    return server.result()


def files(server: Server) -> dict[str, bytes]:
    """The database and what lies beside it, but the lock and the socket."""
    return {
        path.name: path.read_bytes()
        for path in server.folder.glob("jobs.queuedb*")
        if path.suffix not in (".lock", ".sock")
    }


@pytest.mark.parametrize("kind", ["waitress", "granian"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_with_0_and_the_log_in_the_file(
    tmp_path: Path, number: signal.Signals, kind: str
) -> None:
    server = Server(tmp_path, QUEUES, arguments=("--server", kind)).start()
    job = server.api().made()
    assert server.stop(number) == 0
    assert list(files(server)) == ["jobs.queuedb"], "nothing is left in a -wal"
    with Server(tmp_path) as again:
        assert again.api().listed() == [job]


def test_a_stop_answers_what_was_accepted_and_closes_idle_connections(tmp_path: Path) -> None:
    server = Server(tmp_path, QUEUES).start()
    server.api().made()  # its connection stays open, with nothing to do
    made: list[str] = []
    stopped = threading.Event()

    def create() -> None:
        api = server.api()
        while not stopped.is_set():
            try:
                answer = api.create()
            except (OSError, http.client.HTTPException):
                return
            if answer.status == 201:
                made.append(answer.json()["uid"])

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(made) < 100:
        threads[0].join(0.01)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 9, "it did not run into its deadline"
    stopped.set()
    for thread in threads:
        thread.join()
    with Server(tmp_path) as again:
        stored = {job["uid"] for job in again.api().listed()}
    assert set(made) <= stored


@pytest.mark.parametrize("secret", ["", None])
def test_without_a_secret_it_says_how_to_set_it_and_exits_1(
    tmp_path: Path, secret: str | None
) -> None:
    server = Server(tmp_path, QUEUES)
    if secret is None:
        del server.env["SECRET"]
    else:
        server.env["SECRET"] = secret
    server.launch()
    code, stderr = server.result()
    assert code == 1
    assert "export SECRET=" in stderr
    assert files(server) == {}


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_wrong_secret_exits_1_and_touches_nothing(tmp_path: Path, end: str) -> None:
    server = Server(tmp_path, QUEUES).start()
    job = server.api().made()
    getattr(server, end)()
    before = files(server)
    assert ("jobs.queuedb-wal" in before) == (end == "kill")
    code, stderr = run(tmp_path, SECRET="not this one")
    assert code == 1
    assert "SECRET does not open" in stderr
    assert "not this one" not in stderr
    assert files(server) == before
    with Server(tmp_path) as again:
        assert again.api().listed() == [job]


@pytest.mark.parametrize(
    "secret",
    ["'", '"', "x'00'", "'; DROP TABLE job; --", " ", "žluťoučký 🐎", "a\nb", "%s %(x)s", "\\"],
)
def test_any_text_is_a_secret(tmp_path: Path, secret: str) -> None:
    with Server(tmp_path, QUEUES, SECRET=secret) as server:
        job = server.api().made()
    assert run(tmp_path, SECRET=secret + "x")[0] == 1
    with Server(tmp_path, SECRET=secret) as server:
        assert server.api().listed() == [job]


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    with Server(tmp_path, QUEUES) as server:
        job = server.api().made()
    with Server(tmp_path, SECRET="", SECRET_FILE=str(tmp_path / "secret")) as server:
        assert server.api().listed() == [job]


def test_a_plain_sqlite_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.queuedb"
    with sqlite3.connect(path) as plain:
        plain.execute("CREATE TABLE precious (x)")
    plain.close()
    before = path.read_bytes()
    code, stderr = run(tmp_path, QUEUES)
    assert (code, path.read_bytes()) == (1, before)
    assert "plain, unencrypted SQLite database" in stderr


@pytest.mark.parametrize("content", [b"short", b"no database at all" * 1000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "jobs.queuedb"
    path.write_bytes(content)
    assert run(tmp_path, QUEUES)[0] == 1
    assert path.read_bytes() == content


def test_a_log_without_its_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    server = Server(tmp_path, QUEUES).start()
    server.api().made()
    server.kill()
    server.database.unlink()
    log = (tmp_path / "jobs.queuedb-wal").read_bytes()
    code, stderr = run(tmp_path)
    assert code == 1
    assert "jobs.queuedb-wal" in stderr
    assert (tmp_path / "jobs.queuedb-wal").read_bytes() == log


def test_a_second_server_on_the_file_says_which_process_holds_it(tmp_path: Path) -> None:
    with Server(tmp_path, QUEUES) as server:
        code, stderr = run(tmp_path)
        assert code == 1
        assert f"in use by process {server.process.pid}" in stderr
        assert server.api().create().status == 201


def test_a_second_server_is_refused_by_another_name_of_the_file_too(tmp_path: Path) -> None:
    with Server(tmp_path, QUEUES) as server:
        link = tmp_path / "link.queuedb"
        link.symlink_to(server.database)
        code, stderr = run(tmp_path, DB_PATH=str(link))
        assert (code, "in use by process" in stderr) == (1, True)


def test_a_checkpoint_that_was_cut_off_is_recovered_from_the_log(tmp_path: Path) -> None:
    """Page 1 already tells the new length, and the last pages are still in the log alone."""
    server = Server(tmp_path, QUEUES).start()
    jobs = [server.api().made(content={"filler": "x" * 900_000}) for _ in range(3)]
    server.kill()
    log = (tmp_path / "jobs.queuedb-wal").read_bytes()
    Server(tmp_path).start().stop()  # checkpoints
    whole = server.database.read_bytes()
    server.database.write_bytes(whole[: len(whole) // 2 // 4096 * 4096])
    (tmp_path / "jobs.queuedb-wal").write_bytes(log)
    assert run(tmp_path, SECRET="not this one")[0] == 1
    assert (tmp_path / "jobs.queuedb-wal").read_bytes() == log
    with Server(tmp_path) as again:
        assert again.api().listed() == jobs


def fill_up(api: Api) -> list[JobDict]:
    """Creates jobs until the disk is full; those that were created."""
    made, full = list[JobDict](), 0
    for _ in range(30):
        answer = api.create({"filler": "x" * 400_000})
        if answer.status == 201:
            made.append(answer.json())
        else:
            assert answer.status == 503
            # The bound of a file's size is an I/O error, which could be a failed sync.
            assert answer.json()["type"] == "urn:jobengine:problem:outcome-unknown"
            full += 1
    assert made
    assert full
    assert api.send("GET", "/readyz").status == 503
    assert api.send("GET", "/livez").status == 200
    return made


def test_a_full_disk_fails_calls_and_readiness_and_loses_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path, QUEUES)
    server.file_size_limit = 4_000_000
    with server:
        made = fill_up(server.api())
        assert server.stop() == 0
    with Server(tmp_path) as again:
        assert again.api().listed() == made
        assert again.api().create().status == 201


def test_a_killed_server_leaves_no_lock_behind(tmp_path: Path) -> None:
    server = Server(tmp_path, QUEUES).start()
    job = server.api().made()
    server.kill()
    with Server(tmp_path) as again:
        assert again.api().listed() == [job]


@pytest.mark.parametrize(
    "config", ["", "version: 3\nqueues: {a: {read: 1}}\n", "version: 1\nqueues: {q: {read: [*]}}"]
)
def test_a_config_with_mistakes_exits_2_with_the_database_untouched(
    tmp_path: Path, config: str
) -> None:
    server = Server(tmp_path, QUEUES).start()
    server.api().made()
    server.kill()
    before = files(server)
    code, stderr = run(tmp_path, config)
    assert code == 2
    assert str(server.config) in stderr
    if "version: 3" in config:
        assert "version: expected 1 or 1.0, got 3" in stderr
        assert "queues.a.read: expected a list" in stderr
    assert files(server) == before


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("--port", "x"), {}),
        (("--port", "65536"), {}),
        (("--nonsense",), {}),
        ((), {"LOG_LEVEL": "loud"}),
        ((), {"GIN_MODE": "production"}),
        ((), {"SECRET_FILE": "/nowhere"}),
    ],
)
def test_a_mistake_on_the_command_line_or_in_the_environment_exits_2(
    tmp_path: Path, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    assert run(tmp_path, QUEUES, *arguments, **env)[0] == 2


def test_a_missing_config_is_generated_with_its_folder(tmp_path: Path) -> None:
    config = tmp_path / "new" / "folder" / "config.yml"
    with Server(tmp_path, CONFIG_PATH=str(config)) as server:
        assert server.api().create().status == 404
        assert any(event["event"].startswith("config generated") for event in server.log)
    assert "queues: {}" in config.read_text()
    with Server(tmp_path, CONFIG_PATH=str(config)):
        pass


@pytest.mark.parametrize("config", [None, "version: 1\n", "version: 1\nqueues:\n"])
def test_a_mistyped_config_path_does_not_erase_the_queues(
    tmp_path: Path, config: str | None
) -> None:
    with Server(tmp_path, QUEUES) as server:
        job = server.api().made()
    other = tmp_path / "other.yml"
    if config is not None:
        other.write_text(config)
    code, stderr = run(tmp_path, CONFIG_PATH=str(other))
    assert code == 2
    assert str(other) in stderr
    assert str(server.database) in stderr
    assert other.exists() == (config is not None)
    with Server(tmp_path) as again:
        assert again.api().listed() == [job]


def test_no_queues_written_out_is_obeyed(tmp_path: Path) -> None:
    with Server(tmp_path, QUEUES) as server:
        server.api().made()
    with Server(tmp_path, "version: 1\nqueues: {}\n") as server:
        assert server.api().next().status == 404


def test_options_win_over_the_environment_and_the_config(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("version: 1\nport: 1\nhost: 203.0.113.1\nqueues: {}\n")
    arguments = ("--config", str(tmp_path / "c.yml"), "--db", str(tmp_path / "d"))
    with Server(tmp_path, arguments=(*arguments, "--host", "127.0.0.1")) as server:
        assert server.api().send("GET", "/api/v1/test").status == 200
    assert (tmp_path / "d").exists()
    assert not server.database.exists()


def test_it_listens_on_loopback_unless_told_otherwise(tmp_path: Path) -> None:
    with Server(tmp_path, QUEUES) as server:
        (url,) = server.log[-1]["urls"]
        assert url == f"http://127.0.0.1:{server.port}"
    with Server(tmp_path / "b", "version: 1\nhost: 0.0.0.0\n") as server:
        (url,) = server.log[-1]["urls"]
        assert url == f"http://0.0.0.0:{server.port}"


@pytest.mark.parametrize("kind", ["waitress", "granian"])
def test_a_port_in_use_exits_1(tmp_path: Path, kind: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        words = ("--server", kind, "--port", str(taken.getsockname()[1]))
        code, stderr = run(tmp_path, QUEUES, *words)
    assert code == 1
    assert "cannot listen on 127.0.0.1" in stderr


def test_an_unwritable_place_exits_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, stderr = run(tmp_path, QUEUES, DB_PATH=str(tmp_path / "file" / "db"))
    assert code == 1
    assert "Traceback" not in stderr
    code, stderr = run(
        tmp_path, DB_PATH=str(tmp_path / "db"), CONFIG_PATH=str(tmp_path / "file" / "c")
    )
    assert code == 2
    assert "Traceback" not in stderr


@pytest.fixture
def changed(tmp_path: Path) -> Iterator[Server]:
    """A server whose config no longer has the queue `q`, which held two jobs."""
    with Server(tmp_path, QUEUES) as server:
        for _ in range(2):
            server.api().made()
    with Server(tmp_path, "version: 1\nqueues:\n  other: {read: [x], write: [y]}\n") as server:
        yield server


def test_a_removed_queue_is_deleted_and_logged_with_its_jobs(changed: Server) -> None:
    assert changed.api().next().status == 404
    changed_events = [event["event"] for event in changed.log]
    assert "queue removed, since the config no longer has it" in changed_events
    changed.wait_for("removed queue is being deleted with its jobs", queue="q", jobs=2)
    changed.wait_for("jobs of removed queues deleted", queue="q", jobs=2)


def test_a_queue_added_again_is_empty(changed: Server) -> None:
    changed.stop()
    with Server(changed.folder, QUEUES) as server:
        assert server.api().next().status == 204
        assert server.api().listed() == []


def test_changed_rights_are_applied_at_the_start(changed: Server) -> None:
    other = changed.api("other")
    assert other.as_service("a").next().status == 403
    assert other.as_service("x").next().status == 204
    assert other.as_service("y").create().status == 201
    assert any(event["event"] == "queue changed" for event in changed.log)


def test_request_lines_carry_names_and_status_but_no_payload(tmp_path: Path) -> None:
    with Server(tmp_path, QUEUES) as server:
        server.api().as_service("me").create({"needle": "in the hay"})
        server.wait_for("request", method="PUT", status=201, service="me", queue="q")
    assert "needle" not in server.stderr
    assert SECRET not in server.stderr


def test_release_mode_logs_nothing_when_all_is_well(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(tmp_path, QUEUES, arguments=("--port", str(port)), GIN_MODE="release")
    server.launch()
    server.wait_for_port(port)
    assert server.api().create().status == 201
    assert server.stop() == 0
    assert server.stderr == ""


def _audited(port: int, address: str) -> str:
    """The address that the audit trail has of a caller who connects to this one."""
    connection = http.client.HTTPConnection(address, port, timeout=10)
    for method, path in (("PUT", "/api/v1/queues/q"), ("GET", "/api/v1/audit?limit=1")):
        connection.request(method, path, "{}" if method == "PUT" else None, {"X-Name": "ops"})
        answer = connection.getresponse().read()
    connection.close()
    return str(json.loads(answer)[0]["address"])


@pytest.mark.parametrize("kind", ["waitress", "granian"])
@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("::", ("127.0.0.1", "::1")),
        ("0.0.0.0", ("127.0.0.1",)),  # noqa: S104  what is tried
        ("::1", ("::1",)),
        ("localhost", ("127.0.0.1",)),
    ],
)
def test_an_address_means_the_same_under_each_server(
    tmp_path: Path, kind: str, host: str, reached: tuple[str, ...]
) -> None:
    if ":" in host and not _has_ipv6():
        pytest.skip("no IPv6 here")
    config = f'version: 1\nhost: "{host}"\nadmins: [ops]\nqueues: {{}}\n'
    with Server(tmp_path, config, arguments=("--server", kind)) as server:
        for address in reached:
            assert _audited(server.port, address) == address
        if host == "0.0.0.0":  # noqa: S104
            with pytest.raises(OSError, match=r"refused|reachable|assign"):
                socket.create_connection(("::1", server.port), timeout=5)


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("kind", ["waitress", "granian"])
def test_a_name_that_is_none_is_an_address_that_cannot_be_listened_on(
    tmp_path: Path, kind: str
) -> None:
    arguments = ("--server", kind, "--host", "nowhere.invalid")
    server = Server(tmp_path, "version: 1\nqueues: {}\n", arguments=arguments)
    server.launch()
    code, stderr = server.result()
    assert code == 1
    assert "cannot listen on nowhere.invalid" in stderr
    assert "Traceback" not in stderr
