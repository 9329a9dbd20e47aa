"""Keys: who may call with which, and the command that makes and revokes them."""

import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobengine.cli.administer import administer
from jobengine.config.environment import read_environment
from jobengine.domain.audit import Actor
from jobengine.domain.errors import StoreFailed, Unauthenticated
from jobengine.engine.administration import CreateKey, KeyShown, Request, RevokeKey
from jobengine.engine.duties.refresh import Refresh
from jobengine.wsgi import Service
from tests.conftest import launch_in
from tests.harness import command
from tests.harness.client import Answer, Api, HttpTransport
from tests.harness.clock import FileClock
from tests.harness.server import Server
from tests.test_reload import hang_up

DAY = 86400
CONFIG = """\
version: 1
authentication: {mode}
admins: [boss]
queues:
  q: {{read: [reader, both], write: [writer, both]}}
"""


def keys(server: Server, *arguments: str) -> str:
    """Runs `jobengine keys`, on the server's clock; what it printed."""
    done = command.run_beside(server, "keys", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class House(NamedTuple):
    """A server, a connection to it, and keys by what they are."""

    server: Server
    http: HttpTransport
    keys: dict[str, str]


SERVICES = ("reader", "writer", "both", "stranger", "boss")


@pytest.fixture(scope="module", params=["sqlcipher", "postgresql"])
def house(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    databases: Any,
    clock: FileClock,
) -> Iterator[House]:
    """A server that asks for keys, with one of each kind."""
    env = databases.env(request.param)
    folder = tmp_path_factory.mktemp("keys")
    config = CONFIG.format(mode="keys")
    with Server(folder, config, clock_file=clock.path, **env) as server:

        def ask(request: Request[KeyShown]) -> list[KeyShown]:
            return administer(read_environment(server.env), request, clock)

        def create(service: str, valid_for: int | None = None) -> str:
            (key,) = ask(CreateKey(Actor("me"), service, valid_for))
            return key.text

        made = {service: create(service) for service in SERVICES}
        made["revoked"] = create("both")
        ask(RevokeKey(Actor("me"), made["revoked"].split("_")[1]))
        made["expired"] = create("both", DAY)
        clock.advance(DAY)
        made["expiring"] = create("both", 2 * DAY)
        id_, random = made["both"].split("_")[1:]
        made["of another random"] = f"je_{id_}_{'0' * len(random)}"
        made["cut off"] = made["both"][:-1]
        made["of an unknown id"] = f"je_{'0' * len(id_)}_{random}"
        made["in upper case"] = made["both"].upper()
        made["empty"] = ""
        made["no key at all"] = "secret"
        yield House(server, server.http(), made)


CALLS: dict[str, Callable[[Api, str], Answer]] = {
    "create": lambda api, _: api.create(),
    "next": lambda api, _: api.next(),
    "list": lambda api, _: api.all(),
    "get": lambda api, uid: api.get(uid),
    "update": lambda api, uid: api.update(uid, priority=3),
    "delete": lambda api, uid: api.delete(uid),
    "audit": lambda api, _: api.send("GET", "/api/v1/audit"),
    "queues": lambda api, _: api.send("GET", "/api/v1/queues"),
    "queue": lambda api, _: api.send("GET", "/api/v1/queues/q"),
    "put queue": lambda api, _: api.send("PUT", "/api/v1/queues/made", {}),
    "delete queue": lambda api, _: api.send("DELETE", "/api/v1/queues/q"),
    "pause": lambda api, _: api.send("POST", "/api/v1/queues/q/pause"),
    "resume": lambda api, _: api.send("POST", "/api/v1/queues/q/resume"),
    "purge": lambda api, _: api.send(
        "POST", "/api/v1/queues/q/purge", headers={"X-Status-Filter": "failed"}
    ),
    "no such path": lambda api, _: api.send("GET", "/api/v1/nothing"),
}
# Where it is not 200: the queue of the config can be deleted by nobody.
GOOD = {"create": 201, "delete": 204, "delete queue": 409, "no such path": 404}
EVERYBODY = {"queues", "no such path"}
ALLOWED = {
    "reader": {"next", "list", "get", "update", "queue"},
    "writer": {"create", "get", "update", "delete", "queue"},
    "both": {"create", "next", "list", "get", "update", "delete", "queue"},
    "stranger": set[str](),
    "boss": {"audit", "queue", "put queue", "delete queue", "pause", "resume", "purge"},
}


def expected(service: str) -> dict[str, int]:
    """The status of each call of a service."""
    allowed = ALLOWED[service] | EVERYBODY
    return {call: GOOD.get(call, 200) if call in allowed else 403 for call in CALLS}


def statuses(api: Api, both: Api, boss: Api) -> dict[str, int]:
    """The status of each call of a client, on a job and a queue that are there for it."""
    assert boss.send("PUT", "/api/v1/queues/made", {}).status in (200, 201)
    found = {}
    for call, made in CALLS.items():
        found[call] = made(api, str(both.made()["uid"])).status
        boss.send("POST", "/api/v1/queues/q/resume")
    return found


def bearing(house: House, key: str | None, name: str | None = None) -> Api:
    """A client with a key and a name, or without."""
    authorization = None if key is None else f"Bearer {house.keys[key]}"
    return Api(house.http, "q", name, authorization)


def job_of(house: House) -> str:
    """The uid of a job that is there for a call."""
    return str(bearing(house, "both").made()["uid"])


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("named", [False, True])
def test_a_key_opens_what_its_service_may_do(house: House, service: str, named: bool) -> None:
    api = bearing(house, service, service if named else None)
    found = statuses(api, bearing(house, "both"), bearing(house, "boss"))
    assert found == expected(service)


@pytest.fixture(scope="module", params=["sqlcipher", "postgresql"])
def loose(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, databases: Any
) -> Iterator[Server]:
    """A server that believes X-Name."""
    env = databases.env(request.param)
    with Server(tmp_path_factory.mktemp("loose"), CONFIG.format(mode="none"), **env) as server:
        yield server


@pytest.fixture(scope="module")
def open_house(loose: Server) -> House:
    """As `house`, but for the keys, which nobody looks at."""
    return House(loose, loose.http(), {"bad": "je_0_0"})


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("key", [None, "bad"])
def test_without_keys_the_name_opens_what_its_service_may_do(
    open_house: House, service: str, key: str | None
) -> None:
    api = bearing(open_house, key, service)
    both, boss = bearing(open_house, None, "both"), bearing(open_house, None, "boss")
    assert statuses(api, both, boss) == expected(service)


@pytest.mark.parametrize(
    "key",
    [
        None,
        "revoked",
        "expired",
        "of another random",
        "cut off",
        "of an unknown id",
        "in upper case",
        "empty",
        "no key at all",
    ],
)
def test_without_a_good_key_every_call_is_401(house: House, key: str | None) -> None:
    uid = job_of(house)
    for call, made in CALLS.items():
        answer = made(bearing(house, key, "both"), uid)
        assert answer.status == 401, call
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["type"] == "urn:jobengine:problem:unauthenticated"
        assert not key or not house.keys[key] or house.keys[key] not in answer.body.decode()
    assert bearing(house, "both").get(uid).json()["priority"] == 50


def test_a_key_of_another_service_than_x_name_is_403(house: House) -> None:
    uid = job_of(house)
    for call, made in CALLS.items():
        answer = made(bearing(house, "stranger", "both"), uid)
        assert answer.status == 403, call
        assert "stranger" in answer.json()["detail"]


@pytest.mark.parametrize("scheme", ["bearer ", "BEARER  "])
def test_the_scheme_is_read_in_any_case(house: House, scheme: str) -> None:
    api = Api(house.http, "q", None, f"{scheme}{house.keys['both']}")
    assert api.all().status in (200, 204)


@pytest.mark.parametrize("value", ["Basic {}", "{}", "Bearer{}", "Bearer {}, Bearer {}"])
def test_another_scheme_is_401(house: House, value: str) -> None:
    api = Api(house.http, "q", "both", value.format(house.keys["both"], house.keys["both"]))
    assert api.all().status == 401


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/api/v1/test"])
def test_what_says_that_the_server_is_there_needs_no_key(house: House, path: str) -> None:
    assert house.http.send("GET", path, {}, None).status == 200


def test_a_key_expires_as_it_was_made_to(house: House, clock: FileClock) -> None:
    api = bearing(house, "expiring")
    assert api.create().status == 201
    clock.advance(2 * DAY)
    answer = api.create()
    assert answer.status == 401
    assert "expired" in answer.json()["detail"]


def test_a_revoked_key_stops_at_once_and_is_listed(house: House) -> None:
    key = keys(house.server, "create", "both")
    api = Api(house.http, "q", None, f"Bearer {key}")
    heard(house.server, api, 201)
    assert keys(house.server, "revoke", key.split("_")[1]) == ""
    heard(house.server, api, 401)
    id_, deadline = key.split("_")[1], time.monotonic() + 10
    while "never" in (line := line_of(house.server, id_)):  # PostgreSQL is told once a second
        assert time.monotonic() < deadline, "it says when it was last used"
    assert "both" in line
    assert "revoked" in line


def heard(server: Server, api: Api, status: int) -> None:
    """Sees that to be the answer: at once, but for the moment that PostgreSQL takes to tell."""
    deadline = time.monotonic() + (10 if "DATABASE_URL" in server.env else 0)
    while (answer := api.create()).status != status:
        assert time.monotonic() < deadline, answer


def line_of(server: Server, id_: str) -> str:
    (line,) = [line for line in lines(server) if line.startswith(id_)]
    return line


def lines(server: Server) -> list[str]:
    return keys(server, "list").splitlines()


def test_a_list_has_no_key_in_it(house: House) -> None:
    listed = "\n".join(lines(house.server))
    assert "boss" in listed
    for key in house.keys.values():
        assert not key or key.rpartition("_")[2] not in listed


def test_no_key_is_in_the_log_or_the_database(house: House) -> None:
    job_of(house)
    randoms = [house.keys[service].rpartition("_")[2] for service in SERVICES]
    files = b"".join(path.read_bytes() for path in house.server.folder.iterdir() if path.is_file())
    for random in randoms:
        assert random not in house.server.stderr
        assert random.encode() not in files


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("create", "a,b"), 2, "SERVICE"),
        (("create", "a", "--expires", "90"), 2, "--expires"),
        (("create", "a", "--expires", "0d"), 2, "--expires"),
        (("create",), 2, "SERVICE"),
        (("revoke", "nothing"), 1, "'nothing'"),
    ],
)
def test_a_mistake_is_told_on_stderr(
    house: House, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = command.run_beside(house.server, "keys", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


@pytest.mark.parametrize("arguments", [("list",), ("revoke", "x")])
def test_only_a_new_key_makes_a_database(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = command.run("keys", *arguments, DB_PATH=str(tmp_path / "typo.queuedb"))
    assert done.returncode == 1
    assert "is not there" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_revoked_key_stops_although_the_database_cannot_be_read(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    (tmp_path / "config.yml").write_text(CONFIG.format(mode="keys"))
    service = Service(launch_in(tmp_path, **database))
    keys: Any = service.keys
    try:
        key, text = keys.create("both", None, Actor("me"))
        assert keys.authenticate(text) == "both"
        keys._reads, there = Unreadable(), keys._reads
        keys.revoke(key.id, Actor("me"))
        with pytest.raises(Unauthenticated):
            keys.authenticate(text)
        keys._by_id = {key.id: key}  # as on a server that did not hear of it in time
        service.shared_changed()
        assert keys.authenticate(text) == "both"
        keys._reads = there
        Refresh(service).chunk()
        with pytest.raises(Unauthenticated):
            keys.authenticate(text)
    finally:
        service.stop()


class Unreadable:
    """Reads of a database that is away."""

    def connection(self) -> Any:
        raise StoreFailed("it is away")


def test_keys_are_made_and_revoked_without_a_server_and_outlive_one(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    server = Server(tmp_path, CONFIG.format(mode="keys"), **database)
    good, bad = keys(server, "create", "both"), keys(server, "create", "both")
    keys(server, "revoke", bad.split("_")[1])
    with server:
        house = House(server, server.http(), {"good": good, "bad": bad})
        assert bearing(house, "good").create().status == 201
        assert bearing(house, "bad").create().status == 401


def test_the_mode_changes_with_the_config(tmp_path: Path, database: dict[str, Any]) -> None:
    with Server(tmp_path, CONFIG.format(mode="none"), **database) as server:
        key = keys(server, "create", "both")
        house = House(server, server.http(), {"good": key})
        assert server.api().create().status == 201
        hang_up(server, CONFIG.format(mode="keys"))
        server.wait_for("config applied")
        assert server.api().create().status == 401
        assert bearing(house, "good").create().status == 201


def test_the_socket_is_its_owners_and_wants_the_secret(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG.format(mode="keys")) as server:
        socket = server.database.with_name(server.database.name + ".sock")
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        other = command.run_beside(server, "keys", "list", SECRET="another")
        assert other.returncode == 1
        assert "SECRET" in other.stderr
    assert not socket.exists()


@pytest.mark.parametrize("gone", [False, True])
def test_a_stop_waits_for_no_command_that_says_nothing(tmp_path: Path, gone: bool) -> None:
    with (
        Server(tmp_path, CONFIG.format(mode="keys")) as server,
        socket.socket(socket.AF_UNIX) as mute,
    ):
        path = tmp_path / "jobs.queuedb.sock"
        if gone:
            path.unlink()
        else:
            mute.connect(str(path))
        assert server.stop() == 0


def test_a_server_starts_where_no_socket_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "jobs.queuedb.sock").mkdir()
    with Server(tmp_path, CONFIG.format(mode="keys")) as server:
        done = command.run_beside(server, "keys", "create", "both")
        assert done.returncode == 1
        assert "stop it first" in done.stderr


def test_a_server_that_was_killed_leaves_no_socket_in_the_way(tmp_path: Path) -> None:
    server = Server(tmp_path, CONFIG.format(mode="keys")).start()
    server.kill()
    made = keys(server, "create", "both")
    with server:
        assert keys(server, "list").count("both") == 1
        house = House(server, server.http(), {"good": made})
        assert bearing(house, "good").create().status == 201


def test_without_any_key_the_log_says_how_to_make_one(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG.format(mode="keys")) as server:
        assert "jobengine keys create" in server.stderr
