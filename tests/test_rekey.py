"""A new SECRET: the old one opens no more, and kill -9 leaves a database that one opens."""

import os
import pty
import shutil
import sys
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import pytest

from jobengine.config.settings import DatabaseUrl
from jobengine.domain.errors import CannotOpen
from jobengine.store.database import Use
from jobengine.store.migrate import downgrade, upgrade
from jobengine.store.opening import open_database
from jobengine.store.postgresql.sealed import key_prefix
from jobengine.store.sqlcipher.cipher import CipherFile
from tests.conftest import Databases
from tests.harness import CHECKOUT, command
from tests.harness.filling import CONFIG, Creator, filled, stored
from tests.harness.postgresql import Cluster
from tests.harness.server import SECRET, Server
from tests.test_backup import in_hex, names_of, succeeded

NEW, OTHER = "a new secret", "yet another secret"
KILLS = 20
JOBS = 1000


def rekey(database: Path | str, secret: str = SECRET, new: str = NEW) -> "CompletedProcess[str]":
    return command.run("rekey", **at(database), SECRET=secret, NEW_SECRET=new)


def at(database: Path | str) -> dict[str, str]:
    """The environment that names a database."""
    name = "DATABASE_URL" if isinstance(database, str) else "DB_PATH"
    return {name: str(database)}


def opens(database: Path, secret: str) -> bool:
    try:
        CipherFile(database, secret.encode())
    except CannotOpen:
        return False
    return True


@pytest.fixture(params=["sqlcipher", "postgresql"])
def env(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> dict[str, Any]:
    """An empty database of each kind."""
    return {"DB_PATH": str(tmp_path / "jobs.queuedb"), **databases.env(request.param)}


def test_the_new_secret_opens_and_the_old_one_does_not(tmp_path: Path, env: dict[str, Any]) -> None:
    before = filled(tmp_path, 700, **env)
    changed = command.run("rekey", **env, NEW_SECRET=NEW)
    assert succeeded(changed).startswith("700 jobs in 1 queue(s) are under the new SECRET")
    assert "secret" not in changed.stderr
    assert stored(tmp_path, SECRET=NEW, **env) == before
    old = Server(tmp_path, CONFIG, **env)
    old.launch()
    code, printed = old.result()
    assert (code, "SECRET does not open" in printed) == (1, True)
    again = command.run("rekey", **env, NEW_SECRET=NEW)
    assert "nothing to do" in succeeded(again)
    wrong = command.run("rekey", **env, SECRET="wrong", NEW_SECRET=OTHER)
    assert (wrong.returncode, "SECRET does not open" in wrong.stderr) == (1, True)
    (tmp_path / "new").write_text(OTHER + "\n")
    once_more = command.run("rekey", **env, SECRET=NEW, NEW_SECRET_FILE=str(tmp_path / "new"))
    succeeded(once_more)
    assert command.run("verify", **env, SECRET=NEW).returncode == 1
    succeeded(command.run("verify", **env, SECRET=OTHER))


def test_what_a_rekey_refuses(tmp_path: Path) -> None:
    path = tmp_path / "jobs.queuedb"
    with Server(tmp_path, CONFIG):
        in_use = rekey(path)
        assert (in_use.returncode, "in use by process" in in_use.stderr) == (1, True)
    before = path.read_bytes()
    assert rekey(path, new=SECRET).returncode == 2
    both = command.run("rekey", DB_PATH=str(path), NEW_SECRET=NEW, NEW_SECRET_FILE="file")
    assert (both.returncode, "one of the two" in both.stderr) == (2, True)
    none = command.run("rekey", DB_PATH=str(path))
    assert (none.returncode, "NEW_SECRET is not set" in none.stderr) == (1, True)
    assert rekey(tmp_path / "absent").returncode == 1
    reader = CipherFile(path, SECRET.encode())
    with reader.snapshot():
        read = rekey(path)
        assert (read.returncode, "another process" in read.stderr) == (1, True)
    damaged = bytearray(before)
    damaged[-100] ^= 1
    path.write_bytes(damaged)
    assert rekey(path).returncode == 1
    assert path.read_bytes() == damaged
    assert [name for name in names_of(tmp_path, "jobs") if "partial" in name] == []


def test_nothing_of_the_old_file_is_left_and_the_log_is_in_the_new_one(tmp_path: Path) -> None:
    server = Server(tmp_path, CONFIG).start()
    made = server.api().made(content={"in": "the log"})
    server.kill()
    path = tmp_path / "jobs.queuedb"
    salt = path.read_bytes()[:16]
    for ending in ("", "-wal", "-shm"):  # as a rekey that was killed leaves them
        (tmp_path / f"jobs.queuedb.partial{ending}").write_bytes(b"left" * 1024)
    succeeded(rekey(path))
    assert names_of(tmp_path, "jobs") == ["jobs.queuedb", "jobs.queuedb.lock", "jobs.queuedb.sock"]
    assert path.read_bytes()[:16] != salt
    assert stored(tmp_path, SECRET=NEW) == {made["uid"]: made}


def test_the_new_secret_is_asked_for_twice_at_a_terminal(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG):
        pass
    terminal, end = pty.openpty()
    process = Popen(
        [sys.executable, "-m", "jobengine", "rekey"],
        env={**os.environ, "SECRET": SECRET, "DB_PATH": str(tmp_path / "jobs.queuedb")},
        cwd=CHECKOUT,
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
    )
    os.close(end)
    shown = b""
    for prompt in (b"The new SECRET", b"Repeat"):
        while prompt not in shown:
            shown += os.read(terminal, 1000)
        os.write(terminal, NEW.encode() + b"\n")
    while process.poll() is None:
        try:
            shown += os.read(terminal, 1000)
        except OSError:
            break
    os.close(terminal)
    assert process.wait() == 0, shown
    assert NEW.encode() not in shown
    assert opens(tmp_path / "jobs.queuedb", NEW)


def test_kill_9_during_a_rekey_leaves_a_file_that_one_secret_opens(tmp_path: Path) -> None:
    jobs = in_hex(filled(tmp_path / "a", JOBS))
    spare, trial, target = (tmp_path / name for name in ("spare", "trial", "jobs.queuedb"))
    shutil.copy(tmp_path / "a" / "jobs.queuedb", spare)
    shutil.copy(spare, trial)
    kills = command.Kills(KILLS, lambda: succeeded(rekey(trial)))
    for kill in kills:
        shutil.copy(spare, target)
        kill("rekey", **at(target), NEW_SECRET=NEW)
        kills.at_work += target.with_name("jobs.queuedb.partial").exists()
        those = [secret for secret in (SECRET, NEW) if opens(target, secret)]
        assert len(those) == 1, "exactly one"
        with CipherFile(target, those[0].encode()).snapshot() as connection:
            uids = {uid for (uid,) in connection.execute("SELECT lower(hex(uid)) FROM job")}
            assert uids == jobs
            assert connection.execute("PRAGMA cipher_integrity_check").fetchall() == []
    shutil.copy(spare, target)
    succeeded(rekey(target))
    assert not target.with_name("jobs.queuedb.partial").exists()


def contents(url: str, secret: str) -> dict[str, bytes] | None:
    """The contents of all jobs by their uids in hex; None where the secret does not open it."""
    try:
        opened = open_database(DatabaseUrl(url), secret.encode(), Use.LOOK)
    except CannotOpen:
        return None
    with closing(opened) as database:
        with database.readers.connect() as connection:
            rows = connection.exec_driver_sql("SELECT uid, content FROM job").all()
        return {bytes(uid).hex(): database.contents.open(uid, content) for uid, content in rows}


def test_kill_9_during_a_rekey_of_postgresql_leaves_all_jobs_to_the_new_one(
    tmp_path: Path, cluster: Cluster
) -> None:
    """And to the old one, too, until the key of that is gone, which is the end."""
    url = cluster.new_database()
    filled(tmp_path, 1000, DATABASE_URL=url)
    before = contents(url, SECRET)
    assert before
    cluster.execute_in(url, "CREATE TABLE jobs AS TABLE job")
    cluster.execute_in(url, "CREATE TABLE keys AS TABLE master_key")
    cluster.execute_in(url, "CREATE TABLE ends AS TABLE audit_head")
    kills = command.Kills(KILLS, lambda: succeeded(rekey(url)))
    for kill in kills:
        for table, copy in (("job", "jobs"), ("master_key", "keys"), ("audit_head", "ends")):
            cluster.execute_in(url, f"TRUNCATE {table}; INSERT INTO {table} TABLE {copy}")
        kill("rekey", **at(url), NEW_SECRET=NEW)
        keys = cluster.execute_in(url, "SELECT id FROM master_key ORDER BY id")
        old, new = contents(url, SECRET), contents(url, NEW)
        assert [key for (key,) in keys] == [1] * (old is not None) + [2] * (new is not None)
        assert old in (before, None)
        assert new in (before, None)
        if len(keys) == 2:
            kills.at_work += 1
            if kills.at_work % 4 == 0:
                succeeded(rekey(url))
                assert (contents(url, SECRET), contents(url, NEW)) == (None, before)


def test_a_rekey_beside_servers_that_go_on_serving(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.new_database()
    before = filled(tmp_path / "a", 1000, DATABASE_URL=url)
    with Server(tmp_path / "a", CONFIG, DATABASE_URL=url) as server:
        other = Server(tmp_path / "b", CONFIG, DATABASE_URL=url).start()
        with Creator(server.api(), "one") as one, Creator(other.api(), "other") as two:
            first = rekey(url)
            assert (first.returncode, "stop every server" in first.stderr) == (1, True)
            uid = next(iter(before))
            assert server.api().get(uid).json() == before[uid]
            assert other.api().update(uid, content={"a": 1}).status == 200
            before[uid] = server.api().get(uid).json()
        other.stop()
        made = {job["uid"]: job for job in one.acknowledged + two.acknowledged}
        assert len(made) > 40
        listed = {job["uid"]: job for job in server.api().listed()}
        assert listed == before | made
        again = rekey(url)
        assert again.returncode == 1
    succeeded(rekey(url))
    assert contents(url, SECRET) is None
    assert stored(tmp_path / "a", DATABASE_URL=url, SECRET=NEW) == before | made


def test_nothing_of_the_old_key_is_left(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.new_database()
    filled(tmp_path, 50, DATABASE_URL=url)
    ((old_salt, old_canary),) = cluster.execute_in(url, "SELECT salt, canary FROM master_key")
    succeeded(rekey(url))
    assert "nothing to do" in succeeded(rekey(url))
    ((key_id, wrapped),) = cluster.execute_in(url, "SELECT id, wrapped FROM master_key")
    assert (key_id, wrapped) == (2, None)
    sealed = cluster.execute_in(url, "SELECT DISTINCT substr(content, 1, 2) FROM job")
    assert sealed == [(key_prefix(2),)]
    ((place,),) = cluster.execute_in(url, "SELECT pg_relation_filepath('master_key')")
    cluster.execute("CHECKPOINT")
    table = (cluster.data / place).read_bytes()
    assert table
    assert old_salt not in table
    assert old_canary not in table


def test_a_rekey_that_was_begun_may_go_to_another_secret(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.new_database()
    filled(tmp_path, 300, DATABASE_URL=url)
    before = contents(url, SECRET)
    with closing(open_database(DatabaseUrl(url), SECRET.encode())):  # as a server has it open
        assert rekey(url).returncode == 1
        assert rekey(url, "wrong", OTHER).returncode == 1
        assert rekey(url, SECRET, OTHER).returncode == 1
    assert contents(url, NEW) is None
    part = command.run("verify", **at(url), SECRET=NEW)
    assert (part.returncode, "a part" in part.stderr) == (1, True)
    for secret in (SECRET, OTHER):
        assert contents(url, secret) == before
    succeeded(rekey(url, SECRET, OTHER))
    assert contents(url, OTHER) == before


def test_a_content_that_cannot_be_opened_keeps_the_old_key(
    tmp_path: Path, cluster: Cluster
) -> None:
    url = cluster.new_database()
    uid, *_ = filled(tmp_path, 300, DATABASE_URL=url)
    flip = "UPDATE job SET content = set_byte(content, 20, get_byte(content, 20) # 1)"
    of_it = f"uid = '\\x{uid.replace('-', '')}'"
    cluster.execute_in(url, f"{flip} WHERE {of_it}")
    refused = rekey(url)
    assert (refused.returncode, uid in refused.stderr) == (1, True)
    for secret in (SECRET, NEW):
        checked = command.run("verify", **at(url), SECRET=secret)
        assert (checked.returncode, checked.stderr.count("damaged")) == (1, 1)
        assert uid in checked.stderr
    cluster.execute_in(url, f"DELETE FROM job WHERE {of_it}")  # noqa: S608  a uid
    succeeded(rekey(url))
    assert len(contents(url, NEW) or ()) == 299


def test_a_schema_that_knows_one_key_is_migrated_with_no_server_there(
    tmp_path: Path, cluster: Cluster
) -> None:
    url = cluster.new_database()
    filled(tmp_path, 10, DATABASE_URL=url)
    before = contents(url, SECRET)
    with closing(open_database(DatabaseUrl(url), SECRET.encode())) as database:
        downgrade(database, "0003")
        refused = rekey(url)
        assert (refused.returncode, "stop every server" in refused.stderr) == (1, True)
    succeeded(rekey(url))
    assert contents(url, NEW) == before


def test_a_database_that_no_server_has_used_is_left_alone(cluster: Cluster) -> None:
    url = cluster.new_database()
    refused = rekey(url)
    assert (refused.returncode, "no queues and jobs" in refused.stderr) == (1, True)
    with closing(open_database(DatabaseUrl(url), NEW.encode())) as database:
        upgrade(database)
