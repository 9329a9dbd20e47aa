"""The encrypted file: its key, its migrations, and the plans of the hot statements."""

import hashlib
import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event, inspect, text
from sqlcipher3 import dbapi2 as sqlcipher

from jobengine.domain.audit import Act, Actor
from jobengine.domain.errors import CannotOpen
from jobengine.domain.job import State
from jobengine.domain.key import Key
from jobengine.domain.queue import Queue
from jobengine.domain.user import Role, User
from jobengine.store import browse, migrate, reads
from jobengine.store.contents import Plain
from jobengine.store.migrate import downgrade, upgrade
from jobengine.store.reads import HEAD, Slice
from jobengine.store.sqlcipher.database import SqlcipherFile
from jobengine.store.sqlcipher.lock import StoreLock
from jobengine.store.tables import depths, history, people, statements
from jobengine.store.tables.api_keys import add_key
from jobengine.store.tables.audit import record
from jobengine.store.tables.models import COMPLETE, FAILED, job, metadata
from jobengine.store.tables.oldest import OLDEST_QUEUED
from jobengine.store.tables.queues import Times, WantedQueue, reconcile
from jobengine.store.tables.sweeps import expire
from jobengine.store.tables.tally import Tally
from jobengine.store.writing.batch import Batch
from jobengine.store.writing.operations import Create, NewJob
from jobengine.store.writing.unwritten import Unwritten

Q = WantedQueue("q", frozenset({"r"}), frozenset(), 600, 3600)
QUEUE = Queue(1, "q", frozenset(), frozenset(), 600, 3600)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SqlcipherFile]:
    made = SqlcipherFile(tmp_path / "jobs.queuedb", b"secret")
    yield made
    made.close()


def fill(engine: Engine, jobs: int) -> None:
    """A queue with jobs in every state."""
    with engine.begin() as connection:
        reconcile(connection, [Q], Times(600, 3600), 1)
        new = [
            NewJob(n.to_bytes(16), 1 + n % 100, 1000, 2000, 1000, b'{"n":%d}' % n)
            for n in range(jobs)
        ]
        batch = Batch(connection, Plain(), 1000)
        batch.run([Create(QUEUE, new)])
        connection.exec_driver_sql("UPDATE job SET state = id % 4")
        connection.exec_driver_sql(
            "INSERT OR IGNORE INTO master_key (id, salt, canary) VALUES (1, x'00', x'01')"
        )
        add_key(connection, Key("k", "r", b"digest", 1000))
        people.add_user(connection, User("u", Role.VIEWER, reveal=False, created=1000), "hash")
        people.add_session(connection, people.Session(b"digest", "u", 1000, 2000))
        record(connection, Plain(), [Act(Actor("me"), "key.created", "k")], 1000)
        Unwritten().join(connection, batch.tally, 1000, 0, again=False)


def rows(engine: Engine) -> dict[str, list[Any]]:
    with engine.connect() as connection:
        return {
            name: [tuple(row) for row in connection.execute(table.select())]
            for name, table in metadata.tables.items()
        }


def test_migrating_up_down_and_up_again(file: SqlcipherFile) -> None:
    upgrade(file)
    fill(file.writer, 100)
    downgrade(file, "base")
    with file.writer.connect() as connection:
        assert set(inspect(connection).get_table_names()) <= {"alembic_version", "sqlite_sequence"}
    upgrade(file)
    fill(file.writer, 100)


@pytest.fixture
def next_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Adds a migration to come, which does what the text says."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.migrations(), folder)
    newest = ScriptDirectory(str(folder)).get_current_head()

    def add(body: str) -> None:
        (folder / "versions" / "9999_next.py").write_text(
            "from alembic import op\nimport sqlalchemy as sa\n"
            f'revision, down_revision = "9999", "{newest}"\n'
            f"def upgrade():\n    {body}\n"
        )
        monkeypatch.setattr(migrate, "migrations", lambda: folder)

    return add


def test_a_migration_that_makes_a_table_anew_keeps_the_rows_that_refer_to_it(
    file: SqlcipherFile, next_migration: Callable[[str], None]
) -> None:
    upgrade(file)
    fill(file.writer, 100)
    before = rows(file.writer)
    assert all(before.values()), "every table has rows"
    next_migration(
        'with op.batch_alter_table("queue", recreate="always") as table: '
        'table.add_column(sa.Column("more", sa.Text))'
    )
    upgrade(file)
    with file.writer.connect() as connection:
        assert "more" in {column["name"] for column in inspect(connection).get_columns("queue")}
    assert rows(file.writer) == before


def test_a_migration_that_leaves_orphans_is_undone(
    file: SqlcipherFile, next_migration: Callable[[str], None]
) -> None:
    upgrade(file)
    fill(file.writer, 100)
    before = rows(file.writer)
    next_migration('op.execute("DELETE FROM queue")')
    with pytest.raises(
        RuntimeError,
        match="101 rows",  # the jobs, and the depth of their queue
    ):
        upgrade(file)
    assert rows(file.writer) == before


def test_the_migrations_make_what_the_models_say(file: SqlcipherFile) -> None:
    upgrade(file)
    with file.writer.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_migrations_make_the_same_sql_as_the_models(
    file: SqlcipherFile, tmp_path: Path
) -> None:
    upgrade(file)
    modelled = SqlcipherFile(tmp_path / "models.queuedb", b"secret")
    metadata.create_all(modelled.writer)
    query = text("SELECT name, sql FROM sqlite_master WHERE tbl_name IN ('job', 'queue')")
    schemas = []
    for made in (file, modelled):
        with made.writer.connect() as connection:
            found = {name: sql for name, sql in connection.execute(query) if sql}
            schemas.append(
                {name: sorted(re.findall(r"[\w']+", sql)) for name, sql in found.items()}
            )
    modelled.close()
    assert schemas[0] == schemas[1]


def test_a_database_of_a_newer_version_is_refused(file: SqlcipherFile) -> None:
    upgrade(file)
    with file.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'future'")
    with pytest.raises(CannotOpen, match="newer"):
        upgrade(file)


def test_foreign_keys_are_enforced_after_a_migration(file: SqlcipherFile) -> None:
    upgrade(file)
    with file.writer.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1


def test_the_durability_settings_of_the_write_connection(file: SqlcipherFile) -> None:
    with file.writer.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "temp_store")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "temp_store": 2}


def test_a_reader_cannot_write(file: SqlcipherFile) -> None:
    upgrade(file)
    with file.readers.connect() as connection, pytest.raises(Exception, match="readonly"):
        connection.exec_driver_sql("DELETE FROM job")


def test_sqlcipher_opens_the_file_with_the_secret_as_its_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "jobs.queuedb"
    file = SqlcipherFile(path, b"it's a secret")
    upgrade(file)
    file.close()
    connection = sqlcipher.connect(str(path))
    connection.execute("PRAGMA key = 'it''s a secret'")
    assert connection.execute("SELECT count(*) FROM job").fetchone() == (0,)
    connection.close()


def test_two_files_with_one_secret_have_different_keys(tmp_path: Path) -> None:
    heads = set()
    for name in ("a", "b"):
        file = SqlcipherFile(tmp_path / name, b"secret")
        upgrade(file)
        file.close()
        heads.add((tmp_path / name).read_bytes()[:16])
    assert len(heads) == 2


def test_the_database_is_readable_by_its_owner_alone(file: SqlcipherFile) -> None:
    upgrade(file)
    modes = {path.name: path.stat().st_mode & 0o777 for path in file.path.parent.glob("jobs*")}
    names = ("jobs.queuedb", "jobs.queuedb-wal", "jobs.queuedb-shm", "jobs.queuedb.lock")
    assert modes == dict.fromkeys(names, 0o600)


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (["CREATE TABLE alembic_version (version_num)"], None),
        (["CREATE TABLE other (id)"], None),
        (
            ["CREATE TABLE alembic_version (version_num)", "INSERT INTO {} VALUES ('0001')"],
            "another application's tables: its alembic_version is at 0001",
        ),
        (["CREATE TABLE job (id)"], "has not made, or whose alembic_version is gone: job"),
    ],
)
def test_a_file_with_another_applications_tables_is_refused(
    file: SqlcipherFile, statements: list[str], expected: str | None
) -> None:
    with file.writer.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.format("alembic_version"))
    if expected is None:
        upgrade(file)
        return
    with pytest.raises(CannotOpen, match=expected):
        upgrade(file)
    with file.writer.connect() as connection:
        assert len(inspect(connection).get_table_names()) == 1


def test_a_lock_is_exclusive_and_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "jobs.queuedb"
    with StoreLock(path), pytest.raises(CannotOpen, match="in use by process"):
        StoreLock(path)
    StoreLock(path).release()


def plan(connection: Connection, statement: Any, binds: dict[str, Any]) -> str:
    """How SQLite runs the statement, with the text and the parameters that it really gets."""
    sent: list[Any] = []

    def note(_c: object, _u: object, text: str, parameters: Any, *_: object) -> None:
        sent.append((text, parameters))

    event.listen(connection, "before_cursor_execute", note)
    connection.execute(getattr(statement, "statement", statement), binds)
    event.remove(connection, "before_cursor_execute", note)
    text, parameters = sent[-1]  # a BEGIN may stand before it
    explained = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters)
    return "\n".join(row.detail for row in explained)


SLICE = reads._binds(Slice(QUEUE, None, HEAD, 10**9), 1500, 100)
CHANGE = {"job_id": 1, "new_priority": 1, "new_timeout_time": 2000}
DEPTH = {
    "of_queue": 1,
    "more_queued": 1,
    "more_inprogress": 0,
    "more_complete": 0,
    "more_failed": 0,
}
RANGE = {"of_queue": 1, "of_state": 0, "of_priority": 50, "first": 1, "last": 999, "limit": 8}
HOT: dict[str, tuple[Any, dict[str, Any], str]] = {
    "head": (statements.HEAD, {"of_queue": 1, "limit": 10}, "job_claim"),
    "head at": (
        statements.HEAD_AT,
        {"of_queue": 1, "of_priority": 50, "first": 1, "limit": 10},
        "job_claim",
    ),
    "stretch": (
        statements.STRETCH,
        {"of_queue": 1, "of_priority": 50, "first": 1, "now": 1500, "limit": 10},
        "COVERING INDEX job_claim",
    ),
    "priority below": (
        statements.PRIORITY_BELOW,
        {"of_queue": 1, "of_priority": 50},
        "COVERING INDEX job_claim",
    ),
    "expire head": (
        statements.EXPIRE_HEAD,
        {"of_queue": 1, "of_priority": 50, "first": 1, "now": 1500, "limit": 10},
        "job_claim",
    ),
    "touched": (statements.TOUCHED.statement(1), {"value_0": b"x" * 16}, "job_uid"),
    "change": (statements.CHANGE, CHANGE, "PRIMARY KEY"),
    "change content": (
        statements.CHANGE_CONTENT,
        {"job_id": 1, "new_content": b"{}"},
        "PRIMARY KEY",
    ),
    "remove": (statements.REMOVE.statement(2), {"value_0": 1, "value_1": 2}, "PRIMARY KEY"),
    "expire": (statements.EXPIRE, {"now": 1500, "limit": 10}, "job_expire"),
    "fail": (
        statements.FAIL.statement(2),
        {"value_0": 1, "value_1": 2, "window": 600},
        "PRIMARY KEY",
    ),
    "in progress": (
        statements.IN_PROGRESS.statement(2),
        {"value_0": 1, "value_1": 2},
        "PRIMARY KEY",
    ),
    "beat": (
        statements.BEAT.statement(2),
        {"value_0": 1, "value_1": 2, "new_last_updated": 2000},
        "PRIMARY KEY",
    ),
    "overdue": (reads._OVERDUE, {"queue_id": 1, "before": 1500, "limit": 10}, "job_claim"),
    "oldest": (reads._OLDEST, {"queue_id": 1}, "job_claim"),
    "prune complete": (statements.PRUNE[COMPLETE], {"now": 1500, "limit": 10}, "job_finish"),
    "prune failed": (statements.PRUNE[FAILED], {"now": 1500, "limit": 10}, "job_finish"),
    "purge": (statements.PURGE[None], {"of_queue": 1, "last": 9, "limit": 10}, "job_claim"),
    "purge failed": (statements.PURGE[FAILED], {"of_queue": 1, "last": 9, "limit": 9}, "job_claim"),
    "depth": (depths._ADD, DEPTH, "PRIMARY KEY"),
    "get": (reads._GET, {"uid": b"x" * 16}, "job_uid"),
    "ids upwards": (browse._UPWARDS, RANGE, "job_claim"),
    "ids downwards": (browse._DOWNWARDS, RANGE, "job_claim"),
    "next priority": (
        browse._NEXT_PRIORITY,
        {"of_queue": 1, "of_state": 0, "highest": 100},
        "job_claim",
    ),
    "jobs of a page": (browse._JOBS.statement(2), {"value_0": 1, "value_1": 2}, "PRIMARY KEY"),
    "lowest id": (browse._LOWEST, {}, "SEARCH job"),
    "highest id": (browse._HIGHEST, {}, "SEARCH job"),
    "created": (browse._CREATED, {"first": 5}, "PRIMARY KEY"),
    "history": (history.OF_UID, {"uid": b"x" * 16}, "job_uid"),
    "found": (
        browse._BY_UID.order_by(job.c.uid.desc()).limit(9),
        {"low": b"\0" * 16, "high": b"\xff" * 16},
        "job_uid",
    ),
    **{f"list {state}": (reads._page(state), SLICE, "job_claim") for state in (None, *State)},
    **{f"keys {state}": (reads._keys(state), SLICE, "job_claim") for state in (None, *State)},
}


@pytest.fixture(scope="module", params=["not analysed", "analysed"])
def planner(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Connection]:
    """A connection that plans statements, over an empty database and over one of 3000 jobs."""
    file = SqlcipherFile(tmp_path_factory.mktemp("planner") / "jobs.queuedb", b"secret")
    upgrade(file)
    with file.writer.connect() as connection:
        if request.param == "analysed":
            fill_plainly(connection, 3000)
            connection.exec_driver_sql("ANALYZE")
        connection.commit()
        yield connection
    file.close()


@pytest.mark.parametrize("name", HOT)
def test_hot_statements_use_their_index_and_sort_nothing(planner: Connection, name: str) -> None:
    statement, binds, index = HOT[name]
    steps = plan(planner, statement, binds)
    planner.rollback()  # what it did is not to meet the next one
    assert index in steps
    assert "SCAN job" not in steps
    assert "TEMP B-TREE" not in steps
    for step in steps.splitlines():
        if "SEARCH job" in step and name.startswith(("list", "keys")):
            assert "priority" in step, "a page begins at its key"


def test_the_oldest_queued_jobs_are_found_by_steps_in_the_claim_index(
    planner: Connection,
) -> None:
    steps = plan(planner, OLDEST_QUEUED, {"queue_ids": [1, 2]})
    assert steps.count("SEARCH job USING COVERING INDEX job_claim (queue_id=? AND state=?") == 3
    assert "SEARCH job USING INTEGER PRIMARY KEY" in steps, "the oldest alone are fetched"
    assert "SCAN job" not in steps


def fill_plainly(connection: Connection, jobs: int) -> None:
    numbers = itertools.count()
    connection.exec_driver_sql(
        "INSERT INTO queue (id, name, readers, writers, window, keep)"
        " VALUES (1, 'q', '[]', '[]', 600, 3600)"
    )
    connection.exec_driver_sql(
        "INSERT INTO job (uid, queue_id, state, priority,"
        " created, last_updated, timeout_time, valid_for, content)"
        " VALUES (?, 1, ?, ?, 1000, 1000, 2000, 1000, x'7b7d')",
        [(next(numbers).to_bytes(16), n % 4, 1 + n % 100) for n in range(jobs)],
    )


def test_the_sweep_of_a_chunk_touches_no_more_than_its_limit(file: SqlcipherFile) -> None:
    upgrade(file)
    fill(file.writer, 100)
    tally = Tally()
    with file.writer.begin() as connection:
        assert expire(connection, tally, 2000, 10).total() == 0
        assert expire(connection, tally, 2001, 10).total() == 10
        assert expire(connection, tally, 2001, 100) == {1: 15}, "25 jobs were queued"
    assert tally.expired == {1: 25}


def test_the_key_is_sqlciphers_own(tmp_path: Path) -> None:
    """PBKDF2-HMAC-SHA512, 256,000 rounds, salted with the first 16 bytes of the file."""
    path = tmp_path / "jobs.queuedb"
    file = SqlcipherFile(path, b"secret")
    upgrade(file)
    file.close()
    key = hashlib.pbkdf2_hmac("sha512", b"secret", path.read_bytes()[:16], 256_000, 32)
    connection = sqlcipher.connect(str(path))
    connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
    assert connection.execute("SELECT count(*) FROM queue").fetchone() == (0,)
    connection.close()
