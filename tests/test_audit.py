"""The audit trail: what is in it, who may see it, and that it shows what was done to it."""

from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from sqlalchemy import Connection, text

from jobengine.config.environment import read_environment
from jobengine.domain.audit import Act, Actor
from jobengine.store.contents import Plain
from jobengine.store.database import Database, Use
from jobengine.store.migrate import _upgrade, upgrade
from jobengine.store.opening import open_database
from jobengine.store.postgresql.sealed import SALT_BYTES, SealedContents, master_key
from jobengine.store.tables.audit import entries, mistakes, record
from tests.conftest import launch_in
from tests.harness import command
from tests.harness.clock import START, FileClock
from tests.harness.server import Server

OPEN = "{read: ['*'], write: ['*']}"
CONFIG = f"version: 1\nadmins: [boss]\nqueues:\n  q: {OPEN}\n  r: {OPEN}\n"


@pytest.fixture
def server(tmp_path: Path, database: dict[str, Any]) -> Iterator[Server]:
    """A server of the test's own, on a clock of its own."""
    clock = FileClock(tmp_path / "clock")
    with Server(tmp_path, CONFIG, clock_file=clock.path, **database) as running:
        yield running


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that nothing is done to."""
    with Server(tmp_path_factory.mktemp("quiet"), CONFIG) as running:
        yield running


def audit(server: Server, *arguments: str) -> "CompletedProcess[str]":
    return command.run_beside(server, "audit", *arguments)


def trail(server: Server, query: str = "") -> list[dict[str, Any]]:
    answer = server.api(service="boss").send("GET", f"/api/v1/audit{query}")
    assert answer.status == 200, answer
    return list(answer.json())


def make_key(server: Server) -> str:
    return command.run_beside(server, "keys", "create", "mailer").stdout.split("_")[1]


def test_the_config_and_keys_are_in_the_trail_the_newest_first(server: Server) -> None:
    id_ = make_key(server)
    command.run_beside(server, "keys", "revoke", id_)
    server.config.write_text(CONFIG.replace("  r:", "  s:"))
    server.wait_for("config applied")
    entries = trail(server)
    assert [(entry["action"], entry["subject"]) for entry in entries] == [
        ("queue.deleted", "r"),
        ("queue.created", "s"),
        ("key.revoked", id_),
        ("key.created", id_),
        ("queue.created", "r"),
        ("queue.created", "q"),
    ]
    assert [entry["id"] for entry in entries] == [6, 5, 4, 3, 2, 1]
    assert entries[0]["actor"] == "the config"
    assert entries[3]["actor"].endswith("by command")
    assert entries[3]["address"] == "local"
    assert entries[3]["detail"] == {"service": "mailer", "expires": None}
    assert {entry["time"] for entry in entries} == {START}
    assert len({entry["digest"] for entry in entries}) == 6


def test_a_trail_is_read_in_pages(server: Server) -> None:
    make_key(server)
    api = server.api(service="boss")
    first = api.send("GET", "/api/v1/audit?limit=2")
    assert [entry["id"] for entry in first.json()] == [3, 2]
    link = first.headers["link"]
    path = link[link.index("<") + 1 : link.index(">")]
    second = api.send("GET", path)
    assert [entry["id"] for entry in second.json()] == [1]
    assert "link" not in second.headers


def test_a_trail_begins_where_it_is_asked_to(server: Server) -> None:
    FileClock(server.folder / "clock").advance(100)
    make_key(server)
    assert [entry["id"] for entry in trail(server, f"?since={START + 100}")] == [3]
    assert audit(server, "--since", "1m").stdout.count("\n") == 1
    assert audit(server, "--since", "2027-01-01").stdout.count("\n") == 3
    assert audit(server, "--since", "2028-01-01T00:00:00Z").stdout == ""


@pytest.mark.parametrize("query", ["since=x", "since=-1", "before=0", "limit=1001", "upto=1"])
def test_a_bad_parameter_is_named(quiet: Server, query: str) -> None:
    answer = quiet.api(service="boss").send("GET", f"/api/v1/audit?{query}")
    assert answer.status == 400
    assert answer.json()["errors"][0]["parameter"] == query.partition("=")[0]


@pytest.mark.parametrize("service", ["both", "Boss", "*"])
def test_only_admins_see_the_trail(quiet: Server, service: str) -> None:
    assert quiet.api(service=service).send("GET", "/api/v1/audit").status == 403


def test_the_command_shows_and_verifies_beside_a_server_and_without_one(server: Server) -> None:
    id_ = make_key(server)
    beside = audit(server, "--verify")
    server.stop()
    without = audit(server, "--verify")
    assert (beside.returncode, without.returncode) == (0, 0), beside.stderr
    assert beside.stdout == without.stdout
    newest, *_, oldest = beside.stdout.splitlines()
    assert newest.split()[:5] == ["3", "2027-01-15", "08:00:00", "key.created", id_]
    assert "mailer" in newest
    assert oldest.endswith("queue.created   q  by the config")
    assert "whole" in beside.stderr


TAMPERED = {
    "UPDATE audit_entry SET actor = 'nobody' WHERE id = 2": "entry 2 was altered",
    "UPDATE audit_entry SET time = time + 1 WHERE id = 3": "entry 3 was altered",
    "UPDATE audit_entry SET id = 9 WHERE id = 3": "entries 3 to 8 are missing",
    "DELETE FROM audit_entry WHERE id = 1": "entry 1 is missing",
    "DELETE FROM audit_entry WHERE id = 2": "entry 2 is missing",
    "DELETE FROM audit_entry WHERE id = 3": "entry 3 is missing",
    "DELETE FROM audit_entry": "entries 1 to 3 are missing",
    "UPDATE audit_head SET entries = 2": "the end of the trail",
    "DELETE FROM audit_head": "the end of the trail is missing",
}


@pytest.fixture(scope="module", params=["sqlcipher", "postgresql"])
def trailed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, databases: Any
) -> Iterator[Database]:
    """A database with three entries in its trail."""
    folder, env = tmp_path_factory.mktemp("trailed"), databases.env(request.param)
    launch = launch_in(folder, **env)
    database = open_database(launch.database, launch.secret.value)
    upgrade(database)
    acts = [Act(Actor("me", "here"), "queue.created", name, {"read": []}) for name in "abc"]
    with database.writer.begin() as connection:
        record(connection, database.contents, acts[:1], START)
        record(connection, database.contents, acts[1:], START + 1)
    yield database
    database.close()


@pytest.mark.parametrize("begun", ["", "0003", "head"])
def test_a_trail_is_whole_whatever_the_schema_was_and_whenever_it_was_cut_off(
    tmp_path: Path, database: dict[str, Any], begun: str
) -> None:
    """`head` is a start that was killed when it had migrated and done no more."""
    launch = launch_in(tmp_path, **database)
    opened = open_database(launch.database, launch.secret.value)
    if begun:
        with opened.writer.connect() as connection, opened.migrations_locked(connection):
            _upgrade(opened, connection, begun)
            if begun == "0003" and database:
                add_master_key(connection, launch.secret.value)
        opened.close()
        opened = open_database(launch.database, launch.secret.value)
    upgrade(opened)
    with opened.writer.connect() as connection:
        assert list(mistakes(connection, opened.contents)) == []
        record(connection, opened.contents, [Act(Actor("me"), "queue.created", "q")], START)
        assert [entry.action for entry in entries(connection, 0, None, 9)] == ["queue.created"]
        connection.rollback()
    opened.close()


def add_master_key(connection: Connection, secret: bytes) -> None:
    """What a server of that time did next."""
    salt = bytes(SALT_BYTES)
    canary = SealedContents({1: master_key(secret, salt)}).canary()
    statement = text("INSERT INTO master_key (id, salt, canary) VALUES (1, :salt, :canary)")
    connection.execute(statement, {"salt": salt, "canary": canary})
    connection.commit()


def mistakes_after(database: Database, *statements: str) -> list[str]:
    """What is found wrong once somebody has run the statements, which are undone again."""
    with database.writer.connect() as connection, connection.begin() as transaction:
        for statement in statements:
            assert connection.execute(text(statement)).rowcount
        found = list(mistakes(connection, database.contents))
        transaction.rollback()
    return found


@pytest.mark.parametrize("statement", TAMPERED)
def test_what_was_done_to_the_trail_shows(trailed: Database, statement: str) -> None:
    assert mistakes_after(trailed) == []
    assert TAMPERED[statement] in "\n".join(mistakes_after(trailed, statement))


def test_a_trail_that_was_emptied_whole_shows(trailed: Database) -> None:
    found = mistakes_after(trailed, "DELETE FROM audit_entry", "DELETE FROM audit_head")
    assert found == ["the end of the trail is missing"]


def test_who_lacks_the_secret_cannot_make_the_trail_good_again(trailed: Database) -> None:
    """On PostgreSQL, whose tables are not encrypted: the last entry's end is sealed."""
    found = mistakes_after(
        trailed,
        "DELETE FROM audit_entry WHERE id = 3",
        "UPDATE audit_head SET entries = 2, digest = (SELECT digest FROM audit_entry WHERE id = 2)",
    )
    sealed = not isinstance(trailed.contents, Plain)
    assert found == (["the end of the trail was altered"] if sealed else [])


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_entry WHERE id = 3",
        "DELETE FROM audit_entry",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET entries = 2",
        "UPDATE audit_head SET digest = (SELECT digest FROM audit_entry WHERE id = 1)",
    ],
)
def test_a_trail_whose_end_was_altered_goes_on_and_says_so_for_ever(
    trailed: Database, statement: str
) -> None:
    with trailed.writer.connect() as connection, connection.begin() as transaction:
        connection.execute(text(statement))
        act = Act(Actor("me"), "queue.deleted", "a")
        for _ in range(2):
            record(connection, trailed.contents, [act], START)
        newest = [entry.action for entry in entries(connection, 0, None, 3)]
        left = list(mistakes(connection, trailed.contents))
        transaction.rollback()
    assert newest == ["queue.deleted", "queue.deleted", "audit.broken"]
    assert all("missing" in mistake for mistake in left)
    assert bool(left) == statement.startswith("DELETE FROM audit_entry")


def test_the_command_says_what_is_wrong_and_exits_1(server: Server) -> None:
    server.stop()
    launch = read_environment(server.env)
    database = open_database(launch.database, launch.secret.value, Use.ALONE)
    with database.writer.begin() as connection:
        connection.execute(text("UPDATE audit_entry SET actor = 'nobody' WHERE id = 2"))
    database.close()
    found = audit(server, "--verify")
    assert found.returncode == 1
    assert "entry 2 was altered" in found.stderr


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "7", ""])
def test_a_since_that_is_none_is_refused(tmp_path: Path, since: str) -> None:
    refused = command.run("audit", "--since", since, DB_PATH=str(tmp_path / "none"))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--since" in refused.stderr
