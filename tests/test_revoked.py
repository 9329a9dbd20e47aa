"""What is revoked ends: for the calls that wait, the lists that are read, and the writes in hand."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from jobengine.cli.administer import administer
from jobengine.config.environment import read_environment
from jobengine.domain.audit import Actor
from jobengine.domain.clock import SystemClock
from jobengine.engine.administration import CreateKey, RevokeKey
from tests.conftest import Databases
from tests.harness.client import Answer, Api, HttpTransport
from tests.harness.server import Server
from tests.test_bad_input import assert_problem
from tests.test_reload import hang_up
from tests.test_waiting import parked

ME = Actor("me")
CONFIG = """\
version: 1
authentication: {mode}
admins: [boss]
metrics: ['*']
queues:
  q: {{read: [{readers}], write: [worker, boss]}}
"""
# On each kind of database and of HTTP server.
SERVERS = [("sqlcipher", "waitress"), ("sqlcipher", "granian"), ("postgresql", "waitress")]
FILLER = {"filler": "x" * 300_000}  # one job a chunk


class House:
    """A server that asks for keys, and clients of it."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def key(self, service: str, valid_for: int | None = None) -> str:
        """A new key of a service."""
        launch = read_environment(self.server.env)
        (key,) = administer(launch, CreateKey(ME, service, valid_for), SystemClock())
        return key.text

    def revoke(self, key: str) -> None:
        """Returns when the key is revoked."""
        administer(
            read_environment(self.server.env), RevokeKey(ME, key.split("_")[1]), SystemClock()
        )

    def api(self, service: str, key: str, queue: str = "q") -> Api:
        return Api(HttpTransport(self.server.port), queue, service, f"Bearer {key}")


@pytest.fixture(scope="module", params=SERVERS, ids="-".join)
def house(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    databases: Databases,
) -> Iterator[House]:
    kind, http_server = request.param
    folder, arguments = tmp_path_factory.mktemp("revoked"), ("--server", http_server)
    config = CONFIG.format(mode="keys", readers="worker, boss")
    with Server(folder, config, arguments=arguments, **databases.env(kind)) as server:
        yield House(server)


@pytest.fixture
def boss(house: House) -> Api:
    return house.api("boss", house.key("boss"))


@pytest.fixture
def queue(boss: Api, request: pytest.FixtureRequest) -> str:
    """A queue made over HTTP, which the worker and the boss may read and write."""
    boss.queue = request.node.name.partition("[")[0]
    assert put_queue(boss, "worker", "boss").status == 201
    return boss.queue


def put_queue(boss: Api, *services: str) -> Answer:
    rights = {"read": services, "write": services}
    return boss.send("PUT", f"/api/v1/queues/{boss.queue}", rights)


class Waiting:
    """A call that waits for a job, begun and parked."""

    def __init__(self, api: Api, seen_by: Api) -> None:
        self._answer: Answer | None = None
        before = parked(seen_by)
        self._thread = threading.Thread(target=self._wait, args=(api,))
        self._thread.start()
        while parked(seen_by) == before:
            assert self._thread.is_alive(), self._answer

    def _wait(self, api: Api) -> None:
        self._answer = api.send("GET", "/api/v1/jobs/next?wait=60")

    def answer(self) -> Answer:
        """What it is answered, long before its time is up."""
        self._thread.join(30)
        assert self._answer is not None, "it still waits"
        return self._answer


def test_a_claim_that_waits_ends_with_its_key(house: House, boss: Api, queue: str) -> None:
    key, other = house.key("worker"), house.key("worker")
    revoked = Waiting(house.api("worker", key, queue), boss)
    good = Waiting(house.api("worker", other, queue), boss)
    house.revoke(key)
    assert_problem(revoked.answer(), 401, "unauthenticated")
    made = boss.made()
    assert good.answer().json()["uid"] == made["uid"]


def test_a_claim_that_waits_ends_when_its_key_expires(house: House, boss: Api, queue: str) -> None:
    waiting = Waiting(house.api("worker", house.key("worker", 2), queue), boss)
    assert_problem(waiting.answer(), 401, "unauthenticated")
    assert boss.create().status == 201
    assert boss.next().status == 200, "it was dealt to nobody"


def test_a_claim_that_waits_ends_with_its_right(house: House, boss: Api, queue: str) -> None:
    waiting = Waiting(house.api("worker", house.key("worker"), queue), boss)
    assert put_queue(boss, "boss").status == 200
    made = boss.made()
    assert_problem(waiting.answer(), 403, "forbidden")
    assert boss.next().json()["uid"] == made["uid"]


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "deleted and made again"])
def test_a_claim_that_waits_ends_with_its_queue(
    house: House, boss: Api, queue: str, again: bool
) -> None:
    waiting = Waiting(house.api("worker", house.key("worker"), queue), boss)
    assert boss.send("DELETE", f"/api/v1/queues/{queue}").status == 204
    if again:
        assert put_queue(boss, "worker", "boss").status == 201
        made = boss.made()
    assert_problem(waiting.answer(), 404, "unknown-queue")
    if again:
        assert boss.next().json()["uid"] == made["uid"]


def test_a_claim_that_waits_outlives_a_purge_and_a_pause(
    house: House, boss: Api, queue: str
) -> None:
    waiting = Waiting(house.api("worker", house.key("worker"), queue), boss)
    for act in ("purge", "pause", "resume"):
        assert boss.send("POST", f"/api/v1/queues/{queue}/{act}").status == 200
    made = boss.made()
    assert waiting.answer().json()["uid"] == made["uid"]


@pytest.mark.parametrize("http_server", ["waitress", "granian"])
def test_a_claim_that_waits_ends_with_what_a_reload_takes_away(
    tmp_path: Path, http_server: str
) -> None:
    config = CONFIG.format(mode="none", readers="worker, boss")
    with Server(tmp_path, config, arguments=("--server", http_server)) as server:
        boss = server.api("q", "boss")
        waiting = Waiting(server.api("q", "worker"), boss)
        stays = Waiting(server.api("q", "boss"), boss)
        hang_up(server, CONFIG.format(mode="none", readers="boss"))
        assert_problem(waiting.answer(), 403, "forbidden")
        hang_up(server, CONFIG.format(mode="keys", readers="boss"))
        assert_problem(stays.answer(), 401, "unauthenticated")


def broken_off(answer: http.client.HTTPResponse) -> bytes:
    """What is read of an answer that lacks its end; fails where it is whole."""
    body = b""
    with suppress(http.client.IncompleteRead):
        while more := answer.read(65536):
            body += more
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    return body


@pytest.mark.parametrize("how", ["key", "right", "queue"])
def test_a_list_that_is_read_ends_with_key_right_and_queue(
    house: House, boss: Api, queue: str, how: str
) -> None:
    for _ in range(60):
        boss.made(content=FILLER)
    key = house.key("worker")
    connection = http.client.HTTPConnection("127.0.0.1", house.server.port, timeout=30)
    headers = {"Authorization": f"Bearer {key}", "X-Queue": queue}
    connection.request("GET", "/api/v1/jobs", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200
    answer.read(1000)
    if how == "key":
        house.revoke(key)
    elif how == "right":
        put_queue(boss, "boss")
    else:
        boss.send("DELETE", f"/api/v1/queues/{queue}")
    body = broken_off(answer)
    connection.close()
    assert body.count(b'"uid"') < 60
    told = house.server.wait_for("list broken off", queue=queue)
    assert told["service"] == "worker"
    assert key not in house.server.stderr
