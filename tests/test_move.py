"""Moving house: an encrypted file to PostgreSQL, and back."""

from contextlib import closing
from itertools import islice
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from uuid import UUID

import pytest

from jobengine.config.settings import DatabaseUrl
from jobengine.domain.errors import CannotOpen
from jobengine.store.database import Use
from jobengine.store.migrate import upgrade
from jobengine.store.move import Move
from jobengine.store.opening import open_database
from jobengine.store.tables.history import Past, with_history
from jobengine.store.tables.models import STATE_OF
from tests.harness import command, depths
from tests.harness.client import Api
from tests.harness.postgresql import Cluster
from tests.harness.server import SECRET, Server

LEADS = "the background duties are this server's"
OPEN = "{read: ['*'], write: ['*']}"
CONFIG = f"version: 1\nqueues:\n  q: {OPEN}\n  r: {OPEN}\n"


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.new_database()


def move(to: str, secret: str = SECRET, **env: str) -> "CompletedProcess[str]":
    return command.run("move", "--to", to, SECRET=secret, **env)


def fill(api: Api, jobs: int) -> None:
    drafts = [{"content": {"n": n}, "valid_for": 600, "priority": 1 + n % 3} for n in range(jobs)]
    for at in range(0, jobs, 500):
        api.send("PUT", "/api/v1/jobs/create", drafts[at : at + 500])


def filled(folder: Path, jobs: int = 0, **env: Any) -> list[Any]:
    """Makes a database with jobs in every state; the lists of its queues."""
    with Server(folder, CONFIG, **env) as server:
        for state in ("queued", "inprogress", "complete", "failed"):
            server.api().made(state, content={"state": state}, priority=7)
        server.api("r").made(content={"filler": "x" * 900_000})
        fill(server.api(), jobs)
        return lists(server)


def tried_again(server: Server) -> str:
    """The uid of a job of the queue r that was put back, and claimed again."""
    made = server.api("r").made("failed", priority=100)
    server.api("r").update(made["uid"], status="queued")
    assert server.api("r").next().json()["uid"] == made["uid"]
    return str(made["uid"])


def past(uid: str, place: Path | DatabaseUrl) -> Past:
    """What happened to a job, as it is kept in a database at rest."""
    with (
        closing(open_database(place, SECRET.encode(), Use.LOOK)) as database,
        database.readers.connect() as connection,
    ):
        found = with_history(connection, UUID(uid).bytes)
    assert found is not None
    return found[1].past()


def lists(server: Server) -> list[Any]:
    return [server.api(name).listed() for name in ("q", "r")]


def test_what_happened_to_a_job_moves_with_it(tmp_path: Path, url: str) -> None:
    with Server(tmp_path, CONFIG) as server:
        uid = tried_again(server)
    file, back = tmp_path / "jobs.queuedb", tmp_path / "back.queuedb"
    before = past(uid, file)
    assert [STATE_OF[code].value for code, _, _ in before.steps] == [
        "failed",
        "queued",
        "inprogress",
    ]
    assert move(url, DB_PATH=str(file)).returncode == 0
    assert past(uid, DatabaseUrl(url)) == before
    assert move(str(back), DATABASE_URL=url).returncode == 0
    assert past(uid, back) == before


def test_there_and_back_again(tmp_path: Path, url: str) -> None:
    before = filled(tmp_path / "a", 1200)
    command.run("keys", "create", "mailer", DB_PATH=str(tmp_path / "a" / "jobs.queuedb"))
    there = move(url, DB_PATH=str(tmp_path / "a" / "jobs.queuedb"))
    assert there.returncode == 0, there.stderr
    assert there.stdout.startswith("1,205 jobs moved to PostgreSQL at 127.0.0.1:")
    with Server(tmp_path / "b", CONFIG, DATABASE_URL=url) as server:
        assert lists(server) == before
        before[0].insert(0, server.api().made(priority=100))
        assert lists(server) == before
        assert server.api().next().json()["uid"] == before[0].pop(0)["uid"]
        left = lists(server)
        assert "mailer" in command.run_beside(server, "keys", "list").stdout
        assert command.run_beside(server, "audit", "--verify").returncode == 0
        command.run_beside(server, "keys", "create", "shop")
    back = move(str(tmp_path / "c" / "jobs.queuedb"), DATABASE_URL=url)
    assert back.returncode == 0, back.stderr
    with Server(tmp_path / "c", CONFIG) as server:
        assert lists(server) == left
        newest = server.api().made(priority=7)
        assert lists(server)[0].index(newest) == 5, "behind all of its priority"
        assert command.run_beside(server, "keys", "list").stdout.count("\n") == 3
        trail = command.run_beside(server, "audit", "--verify")
        assert (trail.returncode, trail.stdout.count("key.created")) == (0, 2)
        server.stop()
        depths.check(server.env)


def begin_move(source: Path | DatabaseUrl, target: Path | DatabaseUrl, jobs: int) -> None:
    """A move that is cut off when it has copied some of so many jobs."""
    with (
        closing(open_database(source, SECRET.encode(), Use.ALONE)) as there,
        closing(open_database(target, SECRET.encode(), Use.ALONE)) as here,
    ):
        upgrade(here)
        begun = list(islice(Move(there, here).copy(), 3))
        assert begun[0] == 0
        assert 0 < sum(begun) < jobs


def test_a_move_that_was_cut_off_goes_on(tmp_path: Path, url: str) -> None:
    before = filled(tmp_path / "a", 2500)
    path = tmp_path / "a" / "jobs.queuedb"
    begin_move(path, DatabaseUrl(url), 2500)
    assert move(url, DB_PATH=str(path)).returncode == 0
    assert move(url, DB_PATH=str(path)).returncode == 0, "a second time, nothing is left to do"
    with Server(tmp_path / "b", CONFIG, DATABASE_URL=url) as server:
        assert lists(server) == before
    back = tmp_path / "c" / "jobs.queuedb"
    begin_move(DatabaseUrl(url), back, 2500)
    assert move(str(back), DATABASE_URL=url).returncode == 0
    with Server(tmp_path / "c", CONFIG) as server:
        assert lists(server) == before


@pytest.mark.parametrize("kind", ["sqlcipher", "postgresql"])
def test_nothing_opens_a_target_before_the_move_has_finished(
    tmp_path: Path, url: str, kind: str
) -> None:
    source, file = tmp_path / "a" / "jobs.queuedb", tmp_path / "b" / "jobs.queuedb"
    filled(tmp_path / "a", 2500)
    begin_move(source, file if kind == "sqlcipher" else DatabaseUrl(url), 2500)
    env: dict[str, Any] = {"DB_PATH": str(file)} if kind == "sqlcipher" else {"DATABASE_URL": url}
    server = Server(tmp_path / "b", CONFIG, **env)
    server.launch()
    code, printed = server.result()
    assert (code, "has not finished: run `jobengine move` again" in printed) == (1, True)
    config = ("--config", str(server.config))
    copy = str(tmp_path / "copy")
    for arguments in [
        ("keys", "list"),
        ("users", "list"),
        ("config", "plan", *config),
        ("audit",),
        ("verify",),
        ("move", "--to", copy),
        *([("backup", copy)] if kind == "sqlcipher" else []),
    ]:
        refused = command.run(*arguments, **env)
        assert (refused.returncode, "has not finished" in refused.stderr) == (1, True), arguments
    assert not Path(copy).exists()


def test_a_target_that_a_server_has_used_stays_usable(tmp_path: Path, url: str) -> None:
    """A move that is started once more by mistake is refused, and marks nothing."""
    filled(tmp_path / "a", 100)
    path = str(tmp_path / "a" / "jobs.queuedb")
    assert move(url, DB_PATH=path).returncode == 0
    with Server(tmp_path / "b", CONFIG, DATABASE_URL=url) as server:
        server.api().made()
        before = lists(server)
    refused = move(url, DB_PATH=path)
    assert (refused.returncode, "move to an empty database" in refused.stderr) == (1, True)
    with Server(tmp_path / "b", CONFIG, DATABASE_URL=url) as server:
        assert lists(server) == before


def test_nothing_moves_beside_a_live_server(tmp_path: Path, url: str) -> None:
    filled(tmp_path / "a")
    path = str(tmp_path / "a" / "jobs.queuedb")
    with Server(tmp_path / "a", CONFIG):
        refused = move(url, DB_PATH=path)
        assert refused.returncode == 1
        assert "in use by process" in refused.stderr
    with Server(tmp_path / "b", CONFIG, DATABASE_URL=url) as server:
        if LEADS not in [entry["event"] for entry in server.log]:
            server.wait_for(LEADS)
        refused = move(url, DB_PATH=path)
        assert refused.returncode == 1
        assert "in use by a server" in refused.stderr
        assert server.api().listed() == []


def test_no_server_starts_beside_a_move(tmp_path: Path, url: str) -> None:
    moving = open_database(DatabaseUrl(url), SECRET.encode(), Use.ALONE)
    server = Server(tmp_path, CONFIG, DATABASE_URL=url)
    server.launch()
    code, printed = server.result()
    moving.close()
    assert code == 1
    assert "in use by another command" in printed


def test_a_target_that_is_not_a_copy_is_refused_and_left_as_it_was(
    tmp_path: Path, url: str
) -> None:
    filled(tmp_path / "a")
    path = str(tmp_path / "a" / "jobs.queuedb")
    other = CONFIG.replace("  r:", "  s:")
    with Server(tmp_path / "b", other, DATABASE_URL=url) as server:
        made = server.api().made()
    refused = move(url, DB_PATH=path)
    assert refused.returncode == 1
    assert "rows of its own in the table queue" in refused.stderr
    with Server(tmp_path / "b", other, DATABASE_URL=url) as server:
        assert server.api().listed() == [made]


def test_a_target_that_changed_meanwhile_is_noticed(
    tmp_path: Path, url: str, cluster: Cluster
) -> None:
    filled(tmp_path / "a", 100)
    path = tmp_path / "a" / "jobs.queuedb"
    assert move(url, DB_PATH=str(path)).returncode == 0
    source = open_database(path, SECRET.encode())
    target = open_database(DatabaseUrl(url), SECRET.encode(), Use.ALONE)
    upgrade(target)
    for change in ("UPDATE job SET priority = 99 WHERE id = 50", "DELETE FROM job WHERE id = 50"):
        with target.writer.begin() as connection:
            connection.exec_driver_sql(change)
        with pytest.raises(CannotOpen, match=r"differs|has 104 jobs"):
            list(Move(source, target).verify())
    source.close()
    target.close()


def test_what_cannot_be_opened_is_said(tmp_path: Path, url: str, cluster: Cluster) -> None:
    filled(tmp_path / "a")
    path = str(tmp_path / "a" / "jobs.queuedb")
    wrong = move(url, secret="wrong", DB_PATH=path)
    assert wrong.returncode == 1
    assert "SECRET does not open" in wrong.stderr
    absent = move(url, DB_PATH=str(tmp_path / "typo.queuedb"))
    assert absent.returncode == 1
    assert "nothing to move" in absent.stderr
    assert not (tmp_path / "typo.queuedb").exists()
    empty = move(str(tmp_path / "new.queuedb"), DATABASE_URL=cluster.new_database())
    assert empty.returncode == 1
    assert "nothing to move" in empty.stderr
    same = move(path, DB_PATH=path)
    assert (same.returncode, "another database" in same.stderr) == (2, True)
    assert move("", DB_PATH=path).returncode == 2
    locked = move(url.replace("postgres@", "nobody@"), DB_PATH=path)
    assert (locked.returncode, "Traceback" in locked.stderr) == (1, False)
    mistake = move("mysql://user:hidden-password@host/db", DB_PATH=path)
    assert mistake.returncode == 2
    assert "--to is refused" in mistake.stderr
    assert "hidden-password" not in mistake.stderr
