"""What is revoked ends: calls that wait, lists that are read, writes not yet made."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from jobengine.cli.administer import administer
from jobengine.config.environment import read_environment
from jobengine.domain.audit import Actor
from jobengine.domain.errors import Forbidden
from jobengine.engine.administration import CreateKey, RevokeKey
from jobengine.store.writing.operations import Claim, Task
from jobengine.wsgi import Service
from tests.conftest import Databases, launch_in, next_queue
from tests.harness.client import Answer, Api, WsgiTransport
from tests.harness.clock import FileClock
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

    def __init__(self, server: Server, clock: FileClock) -> None:
        self.server, self.clock = server, clock

    def key(self, service: str, valid_for: int | None = None) -> str:
        """A new key of a service."""
        launch = read_environment(self.server.env)
        (key,) = administer(launch, CreateKey(ME, service, valid_for), self.clock)
        self._wait_until(key.text, 404)
        return key.text

    def revoke(self, key: str) -> None:
        """Returns when the server goes by it: on PostgreSQL it hears of it in a moment."""
        launch = read_environment(self.server.env)
        administer(launch, RevokeKey(ME, key.split("_")[1]), self.clock)
        self._wait_until(key, 401)

    def _wait_until(self, key: str, status: int) -> None:
        deadline = time.monotonic() + 30
        api = self.api("worker", key)
        api.service = None
        while api.get("00000000-0000-7000-8000-000000000000").status != status:
            assert "DATABASE_URL" in self.server.env, "a file's server hears of it at once"
            assert time.monotonic() < deadline

    def api(self, service: str, key: str, queue: str = "q") -> Api:
        return Api(self.server.http(), queue, service, f"Bearer {key}")


@pytest.fixture(scope="module", params=SERVERS, ids="-".join)
def house(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    databases: Databases,
    clock: FileClock,
) -> Iterator[House]:
    kind, http_server = request.param
    folder, arguments = tmp_path_factory.mktemp("revoked"), ("--server", http_server)
    config = CONFIG.format(mode="keys", readers="worker, boss")
    env = databases.env(kind)
    with Server(folder, config, arguments=arguments, clock_file=clock.path, **env) as server:
        yield House(server, clock)


@pytest.fixture
def boss(house: House) -> Api:
    return house.api("boss", house.key("boss"))


@pytest.fixture
def queue(boss: Api) -> str:
    """A queue made over HTTP, which the worker and the boss may read and write."""
    boss.queue = next_queue()
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
    waiting = Waiting(house.api("worker", house.key("worker", 20), queue), boss)
    house.clock.advance(20)
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


class HeldService:
    """A service in this process whose writer can be held up."""

    def __init__(self, folder: Path, env: dict[str, Any]) -> None:
        folder.joinpath("config.yml").write_text(CONFIG.format(mode="keys", readers="worker"))
        self.clock = FileClock(folder / "clock")
        self.service = Service(launch_in(folder, **env), self.clock)
        self.writer = self.service._writer

    def api(self, valid_for: int) -> Api:
        """A client with a key of so many seconds."""
        _, key = self.service.keys.create("worker", valid_for, ME)
        return Api(WsgiTransport(self.service.app), "q", "worker", f"Bearer {key}")

    @contextmanager
    def held(self) -> Iterator[None]:
        """The writer stands still, within a batch."""
        began, ends = threading.Event(), threading.Event()

        def hold(_: Connection) -> None:
            began.set()
            ends.wait(30)

        with ThreadPoolExecutor(1) as pool:
            holding = pool.submit(self.writer.submit, Task(hold))
            began.wait(30)
            try:
                yield
            finally:
                ends.set()
            holding.result()

    def wait_for_a_call(self) -> None:
        """Returns when a call waits for the writer."""
        deadline = time.monotonic() + 30
        while self.writer._submissions.empty():
            assert time.monotonic() < deadline


CALLS: dict[str, Callable[[Api, str], Answer]] = {
    "create": lambda api, _: api.create(),
    "create many": lambda api, _: api.send(
        "PUT", "/api/v1/jobs/create", [{"content": {}, "valid_for": 9, "priority": 1}]
    ),
    "next": lambda api, _: api.next(),
    "next that waits": lambda api, _: api.send("GET", "/api/v1/jobs/next?wait=9&count=3"),
    "update": lambda api, uid: api.update(uid, priority=3),
    "update and next": lambda api, uid: api.send(
        "POST", f"/api/v1/jobs/{uid}?next=1", {"status": "complete"}
    ),
    "updates": lambda api, uid: api.send("POST", "/api/v1/jobs", [{"uid": uid, "priority": 3}]),
    "updates and next": lambda api, uid: api.send("POST", "/api/v1/jobs?next=2", [{"uid": uid}]),
    "delete": lambda api, uid: api.delete(uid),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_whose_key_ends_before_its_batch_does_nothing(
    tmp_path: Path, database: dict[str, Any], call: str
) -> None:
    house = HeldService(tmp_path, database)
    try:
        short, long = house.api(5), house.api(500)
        made = [long.made() for _ in range(2)]
        with ThreadPoolExecutor(1) as pool, house.held():
            calling = pool.submit(CALLS[call], short, made[0]["uid"])
            house.wait_for_a_call()
            house.clock.advance(5)
        assert_problem(calling.result(), 401, "unauthenticated")
        assert long.listed() == made
        assert CALLS[call](long, made[0]["uid"]).status in (200, 201, 204)
    finally:
        house.service.stop()


def test_what_a_task_revokes_is_revoked_for_the_very_next_batch(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    house = HeldService(tmp_path, database)
    queue, in_force = house.service.queues.get("q"), True

    def permit() -> None:
        if not in_force:
            raise Forbidden("revoked")

    def revoke(_: None) -> None:
        nonlocal in_force
        in_force = False

    def claim_meanwhile(_: Connection) -> None:
        claiming.append(pool.submit(house.writer.submit, Claim(queue, permit=permit)))
        house.wait_for_a_call()

    claiming: list[Future[Any]] = []
    try:
        with ThreadPoolExecutor(1) as pool:
            house.writer.submit(Task(claim_meanwhile, then=revoke))
            assert isinstance(claiming[0].exception(), Forbidden)
    finally:
        house.service.stop()
