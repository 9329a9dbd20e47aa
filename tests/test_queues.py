"""Queues over HTTP: who may see and administer them, and what becomes of them."""

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import command
from tests.harness.client import Answer, Api
from tests.harness.clock import FileClock
from tests.harness.server import Server
from tests.test_reload import hang_up

CONFIG = """\
version: 1
admins: [boss]
queues:
  c: {read: [reader, both], write: [writer, both]}
  small: {read: [both], write: [both], max_jobs: 3}
"""
_names = itertools.count()


@pytest.fixture(scope="module", params=["sqlcipher", "postgresql"])
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    databases: Any,
    clock: FileClock,
) -> Iterator[Server]:
    """One server for all these tests."""
    folder, env = tmp_path_factory.mktemp("queues"), databases.env(request.param)
    with Server(folder, CONFIG, clock_file=clock.path, **env) as running:
        yield running


@pytest.fixture
def own(tmp_path: Path, database: dict[str, Any]) -> Iterator[Server]:
    """A server of the test's own, to be stopped and started."""
    with Server(tmp_path, CONFIG, **database) as running:
        yield running


@pytest.fixture
def boss(server: Server) -> Api:
    return server.api("", "boss")


@pytest.fixture
def name() -> str:
    """The name of a queue that is not there yet."""
    return f"made {next(_names)}"


RIGHTS = {"read": ["both", "reader"], "write": ["both", "writer"]}


def path(name: str, action: str = "") -> str:
    return f"/api/v1/queues/{name.replace(' ', '%20')}" + (f"/{action}" if action else "")


def put(boss: Api, name: str, body: Any = RIGHTS) -> Answer:
    return boss.send("PUT", path(name), body)


def got(boss: Api, name: str) -> dict[str, Any]:
    answer = boss.send("GET", path(name))
    assert answer.status == 200, answer
    return dict(answer.json())


def api_of(server: Server, name: str) -> Api:
    return server.api(name)


def test_a_queue_is_made_used_changed_and_deleted(server: Server, boss: Api, name: str) -> None:
    both = server.api(name)
    assert both.create().status == 404
    made = put(boss, name)
    assert made.status == 201
    assert made.json() == {
        "name": name,
        "read": ["both", "reader"],
        "write": ["both", "writer"],
        "job_keep_minutes": 60,
        "job_timeout_minutes": 10,
        "max_jobs": None,
        "paused": False,
        "origin": "http",
        "jobs": {"queued": 0, "inprogress": 0, "complete": 0, "failed": 0},
        "oldest_queued_age": None,
    }
    assert got(boss, name) == made.json()
    assert both.create().status == 201
    changed = put(boss, name, {"read": ["*"], "job_keep_minutes": 5, "max_jobs": 7})
    assert changed.status == 200
    assert (changed.json()["write"], changed.json()["job_keep_minutes"]) == ([], 5)
    assert changed.json()["max_jobs"] == 7
    assert both.create().status == 403
    assert both.as_service("anybody").next().status == 200
    assert boss.send("DELETE", path(name)).status == 204
    assert both.next().status == 404
    assert boss.send("GET", path(name)).status == 404
    put(boss, name)
    assert both.listed() == [], "a name that is used again is a queue without jobs"


def test_a_put_again_is_the_same(boss: Api, name: str) -> None:
    first = put(boss, name)
    again = put(boss, name)
    assert (first.status, again.status) == (201, 200)
    assert again.json() == first.json()


def test_queues_are_listed_with_their_jobs_and_the_age_of_the_oldest(
    server: Server, boss: Api, name: str, clock: FileClock
) -> None:
    put(boss, name)
    api = server.api(name)
    for state in ("complete", "failed", "inprogress"):
        api.made(state)
    api.create(priority=1)
    clock.advance(7)
    api.create(priority=100)
    clock.advance(5)
    queue = got(boss, name)
    assert queue["jobs"] == {"queued": 2, "inprogress": 1, "complete": 1, "failed": 1}
    assert queue["oldest_queued_age"] == 12
    listed = boss.send("GET", "/api/v1/queues").json()
    assert queue in listed
    assert [each["name"] for each in listed] == sorted(each["name"] for each in listed)
    api.next()
    assert got(boss, name)["oldest_queued_age"] == 12, "it has the lower priority"
    api.next()
    assert got(boss, name)["oldest_queued_age"] is None


def test_a_service_sees_the_queues_that_it_uses(server: Server, boss: Api, name: str) -> None:
    put(boss, name, {"read": ["me"]})
    me = server.api("", "me")
    assert [queue["name"] for queue in me.send("GET", "/api/v1/queues").json()] == [name]
    assert me.send("GET", path(name)).status == 200
    assert me.send("GET", path("c")).status == 403
    assert me.send("GET", path("nothing")).status == 404
    reader = server.api("", "reader")
    assert "c" in {queue["name"] for queue in reader.send("GET", "/api/v1/queues").json()}


CALLS: dict[str, Callable[[Api, str], Answer]] = {
    "put": put,
    "delete": lambda api, name: api.send("DELETE", path(name)),
    "pause": lambda api, name: api.send("POST", path(name, "pause")),
    "resume": lambda api, name: api.send("POST", path(name, "resume")),
    "purge": lambda api, name: api.send("POST", path(name, "purge")),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("service", ["both", "reader", "stranger", "*", "Boss"])
def test_only_admins_administer(
    server: Server, boss: Api, name: str, call: str, service: str
) -> None:
    put(boss, name)
    server.api(name).create()
    before = got(boss, name)
    assert CALLS[call](server.api("", service), name).status == 403
    assert got(boss, name) == before


@pytest.mark.parametrize("call", CALLS)
def test_a_call_without_a_name_is_400(server: Server, call: str) -> None:
    nobody = Api(server.http(), "", None)
    answer = CALLS[call](nobody, "c")
    assert answer.status == 400
    assert answer.json()["errors"][0]["header"] == "X-Name"


@pytest.mark.parametrize("call", [call for call in CALLS if call != "put"])
def test_an_unknown_queue_is_404(boss: Api, call: str) -> None:
    assert CALLS[call](boss, "nothing").status == 404


@pytest.mark.parametrize("call", ["put", "delete"])
def test_a_queue_of_the_config_is_the_configs(server: Server, boss: Api, call: str) -> None:
    before = got(boss, "c")
    answer = CALLS[call](boss, "c")
    assert answer.status == 409
    assert answer.json()["type"] == "urn:jobengine:problem:conflict"
    assert str(server.config) in answer.json()["detail"]
    assert got(boss, "c") == before
    assert before["origin"] == "config"


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        (b"", [""]),
        (b"[]", [""]),
        (b"\xff", [""]),
        ({"reed": []}, ["/reed"]),
        ({"read": "both", "write": [1]}, ["/read", "/write"]),
        ({"read": ["a", "a,b", ""], "write": ["é"]}, ["/read/1", "/read/2", "/write/0"]),
        ({"job_keep_minutes": -1, "job_timeout_minutes": 0}, None),
        ({"job_keep_minutes": 52_560_001, "job_timeout_minutes": 1.5}, None),
        ({"max_jobs": 0}, ["/max_jobs"]),
        ({"max_jobs": True}, ["/max_jobs"]),
    ],
)
def test_every_mistake_in_a_queue_is_told(
    boss: Api, name: str, body: Any, pointers: list[str] | None
) -> None:
    answer = put(boss, name, body)
    assert answer.status == 400
    expected = pointers or ["/job_keep_minutes", "/job_timeout_minutes"]
    assert [mistake["pointer"] for mistake in answer.json()["errors"]] == expected
    assert boss.send("GET", path(name)).status == 404


def test_a_name_that_is_none_is_refused(boss: Api) -> None:
    answer = boss.send("PUT", "/api/v1/queues/a%2Cb", RIGHTS)
    assert answer.status == 400
    assert answer.json()["errors"][0]["parameter"] == "name"


@pytest.mark.parametrize("queue", ["made", "c"])
def test_a_paused_queue_takes_jobs_and_hands_out_none(
    server: Server, boss: Api, name: str, queue: str
) -> None:
    queue = name if queue == "made" else queue
    if queue == name:
        put(boss, name)
    api = server.api(queue)
    uid = api.create().json()["uid"]
    paused = boss.send("POST", path(queue, "pause"))
    assert (paused.status, paused.json()["paused"]) == (200, True)
    assert api.create().status == 201
    assert api.next().status == 204
    assert api.send("GET", "/api/v1/jobs/next?count=5").status == 204
    assert api.update(uid, priority=60).status == 200
    assert api.send("POST", f"/api/v1/jobs/{uid}?next=1", {}).status == 204
    assert len(api.listed("queued")) == 2
    assert boss.send("POST", path(queue, "resume")).json()["paused"] is False
    assert api.next().json()["uid"] == uid
    api.next()


def test_a_resume_wakes_who_waits(server: Server, boss: Api, name: str) -> None:
    put(boss, name)
    boss.send("POST", path(name, "pause"))
    api, waiting = server.api(name), server.api(name)
    uid = api.create().json()["uid"]
    answers: list[Answer] = []
    waiter = threading.Thread(
        target=lambda: answers.append(waiting.send("GET", "/api/v1/jobs/next?wait=60"))
    )
    waiter.start()
    assert api.next().status == 204
    boss.send("POST", path(name, "resume"))
    waiter.join(30)
    assert answers[0].json()["uid"] == uid


@pytest.mark.parametrize("state", ["queued", "inprogress", "complete", "failed", None])
def test_a_purge_deletes_the_jobs_in_a_state(
    server: Server, boss: Api, name: str, state: str | None
) -> None:
    put(boss, name)
    api = server.api(name)
    states = ["queued", "queued", "inprogress", "complete", "failed"]
    for each in states:
        api.made(each)
    headers = {} if state is None else {"X-Status-Filter": state}
    purged = boss.send("POST", path(name, "purge"), headers=headers)
    kept = [each for each in states if state is not None and each != state]
    assert purged.json() == {"deleted": len(states) - len(kept)}
    assert sorted(job["state"] for job in api.listed()) == sorted(kept)
    assert sum(got(boss, name)["jobs"].values()) == len(kept)


def test_a_purge_is_done_in_chunks_and_leaves_other_queues_alone(
    server: Server, boss: Api, name: str
) -> None:
    put(boss, name)
    api, other = server.api(name), server.api("c")
    kept = other.create().json()["uid"]
    draft = {"content": {}, "valid_for": 600, "priority": 50}
    for _ in range(3):
        assert api.send("PUT", "/api/v1/jobs/create", [draft] * 700).status == 201
    assert boss.send("POST", path(name, "purge")).json() == {"deleted": 2100}
    assert api.listed() == []
    assert other.get(kept).status == 200


def test_a_bad_state_purges_nothing(server: Server, boss: Api, name: str) -> None:
    put(boss, name)
    server.api(name).create()
    misplaced = boss.send("POST", path(name, "purge") + "?state=failed")
    assert misplaced.status == 400
    assert misplaced.json()["errors"][0]["parameter"] == "state"
    bad = boss.send("POST", path(name, "purge"), headers={"X-Status-Filter": "done"})
    assert bad.status == 400
    assert len(server.api(name).listed()) == 1


def test_what_was_done_is_in_the_trail(server: Server, boss: Api, name: str) -> None:
    put(boss, name)
    put(boss, name, {"read": ["me"]})
    server.api(name)
    for action in ("pause", "pause", "resume", "purge"):
        boss.send("POST", path(name, action))
    boss.send("DELETE", path(name))
    trail = boss.send("GET", "/api/v1/audit?limit=1000").json()
    entries = [entry for entry in reversed(trail) if entry["subject"] == name]
    assert [entry["action"] for entry in entries] == [
        "queue.created",
        "queue.changed",
        "queue.paused",
        "queue.resumed",
        "queue.purge",
        "queue.purged",
        "queue.deleted",
    ]
    assert {(entry["actor"], entry["address"]) for entry in entries} == {("boss", "127.0.0.1")}
    assert entries[1]["detail"]["read"] == ["me"]
    assert entries[5]["detail"] == {"state": None, "jobs": 0}
    assert command.run_beside(server, "audit", "--verify").returncode == 0


def test_a_full_queue_takes_no_more_jobs_until_some_are_finished(server: Server) -> None:
    api = server.api("small")
    draft = {"content": {}, "valid_for": 600, "priority": 50}
    assert api.send("PUT", "/api/v1/jobs/create", [draft] * 4).status == 429
    assert api.listed() == [], "all or none"
    uids = [api.create().json()["uid"] for _ in range(3)]
    full = api.create()
    assert full.status == 429
    assert full.json()["type"] == "urn:jobengine:problem:queue-full"
    assert int(full.headers["retry-after"]) >= 1
    assert "small" in full.json()["detail"]
    api.next()
    assert api.create().status == 429, "one in progress counts"
    api.update(uids[0], status="complete")
    assert api.create().status == 201
    api.delete(uids[1])
    assert api.create().status == 201
    assert api.create().status == 429
    api.update(uids[0], status="queued")
    assert len(api.listed("queued")) == 4, "an update is never refused for it"


def test_an_expired_job_makes_room(tmp_path: Path, database: dict[str, Any]) -> None:
    clock = FileClock(tmp_path / "clock")
    with Server(tmp_path, CONFIG, clock_file=clock.path, **database) as server:
        api = server.api("small")
        for _ in range(3):
            assert api.create(valid_for=5).status == 201
        clock.advance(6)
        server.wait_for("jobs expired")
        assert api.create().status == 201


def test_queues_made_over_http_outlive_a_restart(own: Server) -> None:
    boss = own.api("", "boss")
    put(boss, "made", {**RIGHTS, "max_jobs": 9, "job_timeout_minutes": 3})
    boss.send("POST", path("made", "pause"))
    boss.send("POST", path("c", "pause"))
    uid = own.api("made").create().json()["uid"]
    before = got(boss, "made")
    own.stop()
    hang_up(own, CONFIG.replace("version: 1", "version: 1\njob_keep_minutes: 7"))
    own.start()
    boss = own.api("", "boss")
    after = got(boss, "made")
    assert after.pop("job_keep_minutes") == 7, "it has none of its own"
    del after["oldest_queued_age"]
    assert after == {key: before[key] for key in after}
    assert after["job_timeout_minutes"] == 3
    assert own.api("made").get(uid).status == 200
    assert got(boss, "c")["paused"] is True


def test_the_config_takes_a_queue_over(own: Server) -> None:
    boss = own.api("", "boss")
    put(boss, "made", {**RIGHTS, "job_keep_minutes": 7})
    uid = own.api("made").create().json()["uid"]
    config = CONFIG + "  made: {read: [both], write: []}\n"
    coming = own.config.with_name("coming.yml")
    coming.write_text(config)
    shown = command.run_beside(own, "config", "plan", "--config", str(coming))
    assert "= made" in shown.stdout
    hang_up(own, config)
    assert own.wait_for("queue made over HTTP is the config's from now on")["queue"] == "made"
    own.wait_for("config applied")
    queue = got(boss, "made")
    assert (queue["origin"], queue["write"], queue["job_keep_minutes"]) == ("config", [], 60)
    assert own.api("made").get(uid).status == 200
    assert put(boss, "made").status == 409
    assert boss.send("GET", "/api/v1/audit").json()[0]["action"] == "queue.taken_over"
    hang_up(own, CONFIG)
    own.wait_for("config applied")
    assert boss.send("GET", path("made")).status == 404


def test_a_protected_queue_is_deleted_when_it_is_empty(own: Server) -> None:
    hang_up(own, "protect_nonempty: true\n" + CONFIG)
    own.wait_for("config applied")
    boss = own.api("", "boss")
    put(boss, "made")
    own.api("made").create()
    refused = boss.send("DELETE", path("made"))
    assert refused.status == 409
    assert "1 job" in refused.json()["detail"]
    boss.send("POST", path("made", "purge"))
    assert boss.send("DELETE", path("made")).status == 204


def test_without_queues_in_the_config_those_made_over_http_are_kept(own: Server) -> None:
    hang_up(own, "version: 1\nadmins: [boss]\nqueues: {}\n")
    own.wait_for("config applied")
    put(own.api("", "boss"), "made")
    own.stop()
    own.config.unlink()
    own.launch()
    assert own.result()[0] == 2, "a generated config would let everybody in"
    hang_up(own, "version: 1\nadmins: [boss]\n")
    own.start()
    assert own.api("made").create().status == 201


def test_without_admins_nobody_administers(tmp_path: Path) -> None:
    config = CONFIG.replace("admins: [boss]\n", "")
    with Server(tmp_path, config) as server:
        assert put(server.api("", "boss"), "made").status == 403
        assert server.api("", "boss").send("GET", "/api/v1/audit").status == 403


def test_two_servers_on_one_database_see_each_others_queues(tmp_path: Path, databases: Any) -> None:
    env = databases.env("postgresql")
    with (
        Server(tmp_path / "a", CONFIG, **env) as one,
        Server(tmp_path / "b", CONFIG, **env) as other,
    ):
        put(one.api("", "boss"), "made")
        there = other.api("made")
        while there.create().status == 404:
            pass  # it hears of it in a moment
        one.api("", "boss").send("POST", path("made", "pause"))
        assert there.next().status == 204, "the table is asked, not the server's memory"
        waiting: list[Answer] = []
        waiter = threading.Thread(
            target=lambda: waiting.append(there.send("GET", "/api/v1/jobs/next?wait=60"))
        )
        waiter.start()
        one.api("", "boss").send("POST", path("made", "resume"))
        waiter.join(30)
        assert waiting[0].status == 200
