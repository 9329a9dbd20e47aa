"""Backup and restore: what is in them, what is refused, and kill -9 at any moment."""

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from jobengine.store.sqlcipher.cipher import CipherFile
from jobengine.store.sqlcipher.copies import back_up
from jobengine.store.sqlcipher.files import finish_replacing
from jobengine.store.sqlcipher.lock import StoreLock, settle
from tests.harness import command
from tests.harness.filling import CONFIG, Creator, fill, filled, stored
from tests.harness.postgresql import Cluster, program
from tests.harness.server import SECRET, Server
from tests.test_needle import search

KILLS = 20
JOBS = 4000


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A database at rest, and its jobs."""
    folder = tmp_path_factory.mktemp("original")
    return folder / "jobs.queuedb", filled(folder, JOBS)


@pytest.fixture
def home(tmp_path: Path, original: tuple[Path, dict[str, Any]]) -> Path:
    """A database with the jobs of the original, for one test."""
    shutil.copy(original[0], tmp_path / "jobs.queuedb")
    return tmp_path / "jobs.queuedb"


def backup(source: Path, to: Path, *more: str, **env: str) -> "CompletedProcess[str]":
    return command.run("backup", str(to), *more, DB_PATH=str(source), **env)


def restore(source: Path, to: Path, **env: str) -> "CompletedProcess[str]":
    return command.run("restore", str(source), DB_PATH=str(to), **env)


def verify(database: Path) -> str:
    return succeeded(command.run("verify", DB_PATH=str(database)))


def succeeded(done: "CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def uids_in(database: Path) -> set[str]:
    """The uids in a database, which is looked at as a command opens it."""
    settle(database)
    with CipherFile(database, SECRET.encode()).snapshot() as connection:
        return {uid for (uid,) in connection.execute("SELECT lower(hex(uid)) FROM job")}


def in_hex(jobs: dict[str, Any]) -> set[str]:
    return {uid.replace("-", "") for uid in jobs}


# What a killed command may leave of a copy.
PARTIAL = ("copy.partial", "copy.partial-shm", "copy.partial-wal")


def names_of(folder: Path, beginning: str) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(beginning))


def test_a_backup_under_load_has_all_that_was_acknowledged_before(tmp_path: Path) -> None:
    copy = tmp_path / "backup.queuedb"
    with Server(tmp_path / "a", CONFIG) as server:
        fill(server.api(), JOBS)
        with Creator(server.api(), "live") as load:
            before = list(load.acknowledged)
            done = succeeded(backup(server.database, copy))
            during = len(load.acknowledged) - len(before)
        assert f" 1 queue(s) backed up to {copy}" in done
        assert during > 0, "the server went on"
        verify(copy)
    assert names_of(tmp_path, "backup") == [copy.name], "one file, needing no other"
    succeeded(restore(copy, tmp_path / "b" / "jobs.queuedb"))
    restored = stored(tmp_path / "b")
    for job in before:
        assert restored.get(job["uid"]) == job
    there = [job["uid"] in restored for job in load.acknowledged]
    assert there == sorted(there, reverse=True), "all that was created before one moment"
    assert len(restored) >= JOBS + sum(there)


def test_no_plaintext_is_written_by_a_backup_or_a_restore(tmp_path: Path) -> None:
    temporary, folder = tmp_path / "tmp", tmp_path / "a"
    temporary.mkdir()
    config = CONFIG.replace("  q:", "  queue-needle:").replace("'*'", "service-needle")
    with Server(folder, config) as server:
        api = server.api("queue-needle", "service-needle")
        drafts = {"content": {"f": "payload-needle" * 500}, "valid_for": 9, "priority": 1}
        for _ in range(10):
            assert api.send("PUT", "/api/v1/jobs/create", [drafts] * 50).status == 201
    env = {"DB_PATH": str(folder / "jobs.queuedb"), "TMPDIR": str(temporary)}
    files: dict[str, bytes] = {}
    for _ in range(20):
        files |= opened_by("backup", "--force", str(folder / "copy"), **env)
        if any(name.endswith(".partial") for name in files):
            break
    else:
        raise AssertionError("it was never looked at on the way")
    files |= opened_by("restore", str(folder / "copy"), **env)
    assert list(temporary.iterdir()) == []
    files |= {path.name: path.read_bytes() for path in folder.glob("*") if path.suffix != ".yml"}
    assert len(files["copy"]) > 2_000_000
    assert search(files) == []


def opened_by(*arguments: str, **env: str) -> dict[str, bytes]:
    """Runs a command; the files that it was seen to have open, with their bytes."""
    started, files = command.start(*arguments, **env), dict[str, bytes]()
    while (seen := open_files(started.process.pid)) is not None:
        files |= seen
    succeeded(started.result())
    return files


def open_files(pid: int) -> dict[str, bytes] | None:
    """Each regular file that a process has open, with its bytes; None once it has ended."""
    found = {}
    try:
        for link in list(Path(f"/proc/{pid}/fd").iterdir()):
            with suppress(OSError):  # closed meanwhile
                if link.is_file():
                    found[str(link.readlink())] = link.read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # by the instant at which it ended
        return None
    return found


def test_a_backup_is_for_its_owner_alone_and_leaves_nothing_beside_it(
    tmp_path: Path, home: Path
) -> None:
    copy = tmp_path / "to" / "copy"
    copy.parent.mkdir()
    (tmp_path / "to" / "copy.partial").write_bytes(b"of one that was killed" * 100_000)
    succeeded(backup(home, copy))
    assert copy.stat().st_mode & 0o777 == 0o600
    assert names_of(copy.parent, "") == ["copy"]


def test_what_a_backup_refuses(tmp_path: Path, home: Path) -> None:
    copy, before = tmp_path / "copy", home.read_bytes()
    copy.write_bytes(b"mine")
    there = backup(home, copy)
    assert (there.returncode, "--force" in there.stderr) == (2, True)
    wrong = backup(home, copy, "--force", SECRET="wrong")
    assert (wrong.returncode, "SECRET does not open" in wrong.stderr) == (1, True)
    assert copy.read_bytes() == b"mine"
    link = tmp_path / "link"
    link.hardlink_to(home)
    for itself in (home, link):
        refused = backup(home, itself, "--force")
        assert (refused.returncode, "itself" in refused.stderr) == (2, True)
    assert backup(home, tmp_path).returncode == 2
    assert backup(home, tmp_path / "absent" / "copy").returncode == 1
    assert backup(tmp_path / "absent", tmp_path / "new").returncode == 1
    named_badly = home.rename(tmp_path / "x.partial")
    assert backup(named_badly, tmp_path / "x").returncode == 2, "it would be written over"
    assert named_badly.rename(home).read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))
    succeeded(backup(home, copy, "--force"))
    verify(copy)


def test_a_backup_is_not_written_over_a_database_in_use(tmp_path: Path, home: Path) -> None:
    with Server(tmp_path / "b", CONFIG) as server:
        before = server.database.stat()
        refused = backup(home, server.database, "--force")
        assert (refused.returncode, "in use by process" in refused.stderr) == (1, True)
        assert os.path.samestat(before, server.database.stat())


def test_a_backup_of_what_a_killed_server_left_has_it_all(tmp_path: Path, home: Path) -> None:
    server = Server(tmp_path, CONFIG).start()
    made = server.api().made(content={"in": "the log"})
    server.kill()
    log = home.with_name("jobs.queuedb-wal").read_bytes()
    succeeded(backup(home, tmp_path / "copy"))
    assert home.with_name("jobs.queuedb-wal").read_bytes() == log, "looked at, not touched"
    assert in_hex({made["uid"]: made}) < uids_in(tmp_path / "copy")


def test_a_server_stops_and_starts_while_it_is_backed_up(tmp_path: Path, home: Path) -> None:
    server = Server(tmp_path, CONFIG).start()
    first = server.api().made(content={"made": "before"})
    with CipherFile(home, SECRET.encode()).snapshot() as reading:
        second = server.api().made(content={"made": "meanwhile"})
        assert server.stop() == 0
        assert "it is kept" in server.stderr
        with Server(tmp_path, CONFIG) as again:
            third = again.api().made(content={"made": "after a start"})
            assert reading.execute("SELECT count(*) FROM job").fetchone() == (JOBS + 1,)
    there = stored(tmp_path)
    assert len(there) == JOBS + 3
    assert all(there[job["uid"]] == job for job in (first, second, third))
    assert names_of(tmp_path, "jobs") == ["jobs.queuedb", "jobs.queuedb.lock"]


def test_a_restore_keeps_what_was_there_and_is_undone_by_another(
    tmp_path: Path, home: Path, original: tuple[Path, dict[str, Any]]
) -> None:
    succeeded(backup(home, tmp_path / "copy"))
    server = Server(tmp_path, CONFIG).start()
    made = server.api().made(content={"made": "since"})
    server.kill()  # with a log, which is of the database that is replaced
    printed = succeeded(restore(tmp_path / "copy", home))
    kept = tmp_path / "jobs.queuedb.replaced-1"
    assert str(kept) in printed
    assert uids_in(home) == in_hex(original[1])
    succeeded(restore(kept, home))
    assert uids_in(home) == in_hex(original[1]) | in_hex({made["uid"]: made})
    assert (tmp_path / "jobs.queuedb.replaced-2").exists()
    assert stored(tmp_path) == {**original[1], made["uid"]: made}


def test_what_a_restore_refuses(tmp_path: Path, home: Path) -> None:
    copy, before = tmp_path / "copy", home.read_bytes()
    succeeded(backup(home, copy))
    with StoreLock(home):
        refused = restore(copy, home)
        assert (refused.returncode, "in use by process" in refused.stderr) == (1, True)
    damaged = bytearray(copy.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    (tmp_path / "short").write_bytes(before[:-4096])
    (tmp_path / "empty").touch()
    reasons = {"damaged": "is damaged, and nothing was", "short": "is damaged, and nothing was"}
    for name, why in {**reasons, "empty": "is empty", "absent": "is not there"}.items():
        refused = restore(tmp_path / name, home)
        assert (refused.returncode, why in refused.stderr) == (1, True), name
    assert restore(copy, home, SECRET="wrong").returncode == 1
    assert restore(home, home).returncode == 2
    connection = CipherFile(copy, SECRET.encode()).connect()
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    newer = restore(copy, home)
    assert (newer.returncode, "newer JobEngine" in newer.stderr) == (1, True)
    assert home.read_bytes() == before
    assert names_of(tmp_path, "jobs") == ["jobs.queuedb", "jobs.queuedb.lock"]


def test_a_damaged_database_is_kept_with_its_log(tmp_path: Path, home: Path) -> None:
    succeeded(backup(home, tmp_path / "copy"))
    damaged, log = bytes(100) + home.read_bytes()[100:], b"a log"
    home.write_bytes(damaged)
    home.with_name("jobs.queuedb-wal").write_bytes(log)
    succeeded(restore(tmp_path / "copy", home))
    kept = tmp_path / "jobs.queuedb.replaced-1"
    assert kept.read_bytes() == damaged
    assert kept.with_name(kept.name + "-wal").read_bytes() == log
    assert len(uids_in(home)) == JOBS


def test_the_log_of_a_killed_copy_is_not_played_into_the_next(tmp_path: Path, home: Path) -> None:
    copy = tmp_path / "copy"
    with Server(tmp_path, CONFIG) as server:
        server.api().create()
        log = home.with_name(f"{home.name}-wal").read_bytes()  # of the key and the salt of a copy
    assert log
    for name in PARTIAL:
        (tmp_path / name).write_bytes(log)
    succeeded(backup(home, copy))
    assert names_of(tmp_path, "copy") == ["copy"]
    assert len(uids_in(copy)) == JOBS + 1


def test_kill_9_during_a_backup_leaves_none_or_a_whole_one(tmp_path: Path, home: Path) -> None:
    copy = tmp_path / "copy"
    with Server(tmp_path, CONFIG) as server:
        kills = command.Kills(KILLS, lambda: succeeded(backup(home, copy)))
        for kill in kills:
            copy.unlink(missing_ok=True)
            kill("backup", str(copy), DB_PATH=str(home))
            left = names_of(tmp_path, "copy")
            assert left == ["copy"] or set(left) <= set(PARTIAL)
            kills.at_work += "copy.partial" in left
            if copy.exists():
                verify(copy)
        succeeded(backup(home, copy, "--force"))
        assert len(server.api().listed()) == JOBS
    assert len(uids_in(copy)) == JOBS


def test_kill_9_during_a_restore_leaves_the_old_or_the_new(
    tmp_path: Path, home: Path, original: tuple[Path, dict[str, Any]]
) -> None:
    copy, other, target = (tmp_path / name for name in ("copy", "other", "target.queuedb"))
    succeeded(backup(home, copy))
    old = in_hex(filled(tmp_path / "old", 1))
    shutil.copy(tmp_path / "old" / "jobs.queuedb", other)
    kills = command.Kills(KILLS, lambda: succeeded(restore(copy, tmp_path / "trial")))
    for kill in kills:
        for path in tmp_path.glob("target.queuedb*"):
            path.unlink()
        shutil.copy(other, target)
        kill("restore", str(copy), DB_PATH=str(target))
        kills.at_work += target.with_name("target.queuedb.partial").exists()
        assert uids_in(target) in (old, in_hex(original[1]))


@pytest.mark.parametrize("steps", range(6))
def test_a_replacement_that_was_cut_off_at_any_step_is_finished(
    tmp_path: Path, home: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is a change of a name; after any of them, who opens it next does the rest."""
    for name, data in (("-wal", b"a log"), ("-shm", b"its index")):
        home.with_name(f"jobs.queuedb{name}").write_bytes(data)
    shutil.copy(home, tmp_path / "jobs.queuedb.restored-3")
    home.write_bytes(b"the old one")
    left = steps

    def counted(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        return call(*arguments, **options)

    for name in ("rename", "unlink"):
        monkeypatch.setattr(Path, name, _method(partial(counted, getattr(Path, name))))
    if steps < 5:
        with pytest.raises(KeyboardInterrupt):
            finish_replacing(home)
    else:
        finish_replacing(home)
    monkeypatch.undo()
    assert len(uids_in(home)) == JOBS
    assert (tmp_path / "jobs.queuedb.replaced-3").read_bytes() == b"the old one"
    assert (tmp_path / "jobs.queuedb.replaced-3-wal").read_bytes() == b"a log"
    assert not list(tmp_path.glob("*.restored-*"))


def _method(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *arguments, **options: call(self, *arguments, **options)


def test_a_server_finishes_a_restore_that_was_cut_off(
    tmp_path: Path, home: Path, original: tuple[Path, dict[str, Any]]
) -> None:
    home.rename(tmp_path / "jobs.queuedb.restored-1")
    assert stored(tmp_path) == original[1]


def test_two_backups_to_one_place_do_not_mix(tmp_path: Path, home: Path) -> None:
    copy = tmp_path / "copy"
    met: list[str] = []

    def tell(_what: str, _done: int, _of: int) -> None:
        if not met:
            met.append(backup(home, copy).stderr)

    back_up(home, SECRET.encode(), copy, tell)
    assert "being written by another command" in met[0]
    verify(copy)


def test_a_postgresql_is_backed_up_by_its_own_tools(tmp_path: Path, cluster: Cluster) -> None:
    url, to, dump = cluster.new_database(), cluster.new_database(), tmp_path / "dump"
    before = filled(tmp_path / "a", 500, DATABASE_URL=url)
    for name, place in (("backup", url), ("restore", to)):
        refused = command.run(name, str(dump), DATABASE_URL=place)
        assert refused.returncode == 2
        words = refused.stderr.partition(" with ")[2].split()
        tool = program(words[0])
        if tool is None:
            pytest.skip("PostgreSQL's client programs are not installed")
        words[words.index('"${DATABASE_URL/+psycopg/}"')] = place.replace("+psycopg", "")
        subprocess.run([tool, *words[1:]], check=True, capture_output=True)
    assert b"filled" not in dump.read_bytes()
    assert stored(tmp_path / "b", DATABASE_URL=to) == before
