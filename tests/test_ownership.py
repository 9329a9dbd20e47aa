"""One server a file, whatever names the file has, and a log that is the file's own."""

import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobengine.store.database import Use
from jobengine.store.opening import open_database
from jobengine.store.sqlcipher.cipher import CipherFile
from tests.harness import command
from tests.harness.client import Api
from tests.harness.server import SECRET, Server
from tests.test_disks import kind, numbers
from tests.test_outages import ready, until_done

CONFIG = "version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n"
GONE = (
    "removed or replaced under the server: nothing is written any more; stop the server, put the "
    "files back, and start it again"
)


def made(api: Api, *numbers_: int) -> None:
    for number in numbers_:
        assert api.create({"n": number}).status == 201


def refused(server: Server) -> str:
    """What a server printed that was not to start."""
    server.launch()
    code, printed = server.result()
    assert code == 1, printed
    return printed


def log_of(database: Path) -> Path:
    return database.with_name(database.name + "-wal")


@pytest.fixture
def mounted() -> Iterator[Callable[..., None]]:
    """Mounts one file at the place of another, until the test is over."""
    with ExitStack() as undo:

        def mount(source: Path, target: Path) -> None:
            target.touch()
            words = ["mount", "--bind", str(source), str(target)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
            undo.callback(lambda: subprocess.run(["umount", "--lazy", target], check=True))

        yield mount


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "a", CONFIG) as running:
        made(running.api(), 0)
        yield running


@pytest.mark.parametrize("how", ["link", "mount", "lock"])
def test_a_second_server_is_refused_whatever_the_file_is_called(
    tmp_path: Path, server: Server, mounted: Callable[..., None], how: str
) -> None:
    (tmp_path / "b").mkdir()
    second = Server(tmp_path / "b", CONFIG)
    if how == "link":
        second.database.hardlink_to(server.database)
    elif how == "mount":
        mounted(server.database, second.database)
    else:
        server.database.with_name("jobs.queuedb.lock").unlink()
        second = Server(server.folder)
    assert f"is in use by process {server.process.pid}: only one server" in refused(second)
    made(server.api(), 1)
    server.kill()
    if how == "link":
        second.database.unlink()
    with Server(server.folder) as again:
        assert numbers(again.api()) == {0, 1}


def test_commands_go_on_beside_a_server_whose_lock_was_removed(
    tmp_path: Path, server: Server
) -> None:
    server.database.with_name("jobs.queuedb.lock").unlink()
    for _ in range(2):
        for arguments in (("keys", "create", "a"), ("verify",), ("backup", str(tmp_path / "copy"))):
            done = command.run_beside(server, *arguments)
            assert done.returncode == 0, done.stderr
        (tmp_path / "copy").unlink()
    assert command.run_beside(server, "rekey", NEW_SECRET="another").returncode == 1
    made(server.api(), 1)
    assert numbers(server.api()) == {0, 1}


def test_a_file_with_two_names_is_refused_until_it_has_one(tmp_path: Path, server: Server) -> None:
    server.stop()
    other = tmp_path / "other"
    other.hardlink_to(server.database)
    assert "has 2 names (hard links)" in refused(Server(server.folder))
    other.unlink()
    with Server(server.folder) as again:
        assert numbers(again.api()) == {0}


def test_whoever_opens_and_closes_the_file_leaves_the_server_its_log(server: Server) -> None:
    """SQLite takes the log away at the last close, unless a server's lock is on the file."""
    connection = CipherFile(server.database, SECRET.encode()).connect()
    assert connection.execute("SELECT count(*) FROM job").fetchone() == (1,)
    connection.close()
    assert log_of(server.database).exists()


@pytest.mark.parametrize(
    ("what", "replaced"), [("file", False), ("file", True), ("log", False), ("both", True)]
)
def test_a_server_whose_files_were_taken_away_acknowledges_nothing_more(
    tmp_path: Path, server: Server, what: str, *, replaced: bool
) -> None:
    api, away = server.api(), tmp_path / "away"
    away.mkdir()
    paths = [server.database, log_of(server.database)]
    taken = {"file": paths[:1], "log": paths[1:], "both": paths}[what]
    for path in taken:
        path.rename(away / path.name)
        if replaced:
            shutil.copy(away / path.name, path)
    server.wait_for(GONE)
    assert kind(api.create({"n": 1})) == "store-failed"
    answer = ready(api)
    assert kind(answer) == "store-failed"
    assert "was removed or replaced under the server" in answer.json()["detail"]
    for path in taken:
        (away / path.name).rename(path)
    assert ready(api).status == 503, "what lies there may have been written by others"
    server.kill()
    with Server(server.folder) as again:
        assert numbers(again.api()) == {0}


@pytest.mark.parametrize("what", ["file", "log"])
def test_a_server_that_is_stopped_then_loses_nothing(
    tmp_path: Path, server: Server, what: str
) -> None:
    """Of a file that was moved it keeps the log; a log that was removed it puts into the file."""
    if what == "log":
        log_of(server.database).unlink()
    else:
        server.database.rename(tmp_path / "away")
    server.wait_for(GONE)
    assert server.stop() == 0
    if what == "file":
        assert log_of(server.database).stat().st_size > 0
        (tmp_path / "away").rename(server.database)
    with Server(server.folder) as again:
        assert numbers(again.api()) == {0}


def backup_of(server: Server, copy: Path) -> None:
    done = command.run_beside(server, "backup", str(copy))
    assert done.returncode == 0, done.stderr


def copy_of_stopped(server: Server, copy: Path) -> None:
    server.stop()
    shutil.copy(server.database, copy)
    server.start()


@pytest.mark.parametrize("made_by", [backup_of, copy_of_stopped])
def test_a_backup_copied_over_a_database_is_not_opened_with_its_log(
    tmp_path: Path, server: Server, made_by: Callable[[Server, Path], None]
) -> None:
    copy, kept = tmp_path / "copy", tmp_path / "kept"
    made_by(server, copy)
    made(server.api(), 1, 2)
    server.kill()
    shutil.copy(server.database, kept)
    shutil.copy(copy, server.database)
    log = log_of(server.database)
    before = log.read_bytes()
    assert "jobs.queuedb-wal is not the log of" in refused(Server(server.folder))
    for arguments in (("verify",), ("keys", "create", "a"), ("backup", str(tmp_path / "other"))):
        done = command.run(*arguments, DB_PATH=str(server.database))
        assert (done.returncode, "is not the log of" in done.stderr) == (1, True), arguments
    assert log.read_bytes() == before
    assert server.database.read_bytes() == copy.read_bytes()
    log.rename(tmp_path / "log")
    with Server(server.folder) as again:
        assert numbers(again.api()) == {0}
    shutil.copy(kept, server.database)
    shutil.copy(tmp_path / "log", log)
    with Server(server.folder) as again:
        assert numbers(again.api()) == {0, 1, 2}


def crashed(folder: Path) -> Path:
    return folder


def copied(folder: Path, name: str, *without: str) -> Path:
    ignored = shutil.ignore_patterns("*.sock", *without)
    return Path(shutil.copytree(folder, folder.with_name(name), ignore=ignored))


def copied_with_its_lock(folder: Path) -> Path:
    return copied(folder, "copy")


def copied_without_its_lock(folder: Path) -> Path:
    return copied(folder, "copy", "*.lock")


def renamed(folder: Path) -> Path:
    return folder.rename(folder.with_name("new"))


def with_the_lock_of_a_version_before(folder: Path) -> Path:
    (folder / "jobs.queuedb.lock").write_text("1234\n")
    return folder


def put_back_from_a_snapshot(folder: Path) -> Path:
    """File and log as they were, where a server has been at work and was killed since."""
    snapshot = copied_without_its_lock(folder)
    for _ in range(2):
        later = Server(folder).start()
        made(later.api(), 3)
        later.kill()
    for path in snapshot.glob("jobs.queuedb*"):
        shutil.copy(path, folder)  # over what is there: the inodes stay
    return folder


def written_by_a_command_that_was_killed(folder: Path) -> Path:
    """A log without a server's note on it, in the place of one with a note."""
    database = open_database(folder / "jobs.queuedb", SECRET.encode(), Use.SERVE)
    with database.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE queue SET name = name")
    left = copied(folder, "killed")
    database.close()
    return left


@pytest.mark.parametrize(
    "happened",
    [
        crashed,
        copied_with_its_lock,
        copied_without_its_lock,
        renamed,
        with_the_lock_of_a_version_before,
        put_back_from_a_snapshot,
        written_by_a_command_that_was_killed,
    ],
)
def test_a_file_and_its_own_log_are_opened_wherever_they_are_put(
    server: Server, happened: Callable[[Path], Path]
) -> None:
    made(server.api(), 1, 2)
    server.kill()
    folder = happened(server.folder)
    assert log_of(folder / "jobs.queuedb").stat().st_size > 0
    with Server(folder) as again:
        assert numbers(again.api()) == {0, 1, 2}
        assert until_done(lambda: ready(again.api()), 200)


def test_a_restored_database_and_what_was_written_since_are_opened(
    tmp_path: Path, server: Server
) -> None:
    backup_of(server, tmp_path / "copy")
    made(server.api(), 1)
    server.kill()
    done = command.run("restore", str(tmp_path / "copy"), DB_PATH=str(server.database))
    assert done.returncode == 0, done.stderr
    with Server(written_by_a_command_that_was_killed(server.folder)) as again:
        assert numbers(again.api()) == {0}
        made(again.api(), 2)
        again.kill()
    with Server(again.folder) as later:
        assert numbers(later.api()) == {0, 2}


LONG = "a folder with a long name, " * 5


@pytest.mark.parametrize("name", ["jobs.queuedb", "another long name, " * 3])
def test_commands_reach_a_server_however_long_the_path_is(tmp_path: Path, name: str) -> None:
    folder = tmp_path / LONG / LONG
    folder.mkdir(parents=True)
    with Server(folder, CONFIG, DB_PATH=str(folder / name)) as server:
        done = command.run_beside(server, "keys", "create", "a")
        assert (done.returncode, done.stderr.startswith("the key")) == (0, True), done.stderr
        assert stat.S_IMODE((folder / f"{name}.sock").stat().st_mode) == 0o600


def test_a_server_that_cannot_be_asked_is_told_with_the_reason(
    tmp_path: Path, server: Server
) -> None:
    path = server.database.with_name("jobs.queuedb.sock")
    path.unlink()
    done = command.run_beside(server, "keys", "list")
    assert (done.returncode, "No such file or directory (ENOENT)" in done.stderr) == (1, True)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(path))
        done = command.run_beside(server, "keys", "list")
    assert (done.returncode, "Connection refused (ECONNREFUSED)" in done.stderr) == (1, True)


class Theirs:
    """A folder of a service that runs as another user, whose files root makes."""

    UID, GID = 12345, 23456

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can give files away")
        self.folder = folder
        folder.mkdir()
        os.chown(folder, self.UID, self.GID)
        self.database = folder / "jobs.queuedb"

    def owners(self) -> set[tuple[int, int]]:
        return {(p.stat().st_uid, p.stat().st_gid) for p in self.folder.iterdir()}

    def mode(self) -> int:
        return stat.S_IMODE(self.database.stat().st_mode)


def test_what_root_makes_for_a_service_is_the_services(tmp_path: Path, server: Server) -> None:
    theirs, copy = Theirs(tmp_path / "theirs"), tmp_path / "copy"
    backup_of(server, copy)
    assert copy.stat().st_uid == 0
    env = {"DB_PATH": str(theirs.database)}
    owner = {(theirs.UID, theirs.GID)}
    for arguments in [("restore", str(copy)), ("keys", "create", "a"), ("restore", str(copy))]:
        done = command.run(*arguments, **env)
        assert done.returncode == 0, done.stderr
        assert theirs.owners() == owner, arguments
        assert theirs.mode() == 0o600
    theirs.database.chmod(0o640)
    for arguments, more in [
        (("rekey",), {"NEW_SECRET": "another"}),
        (("restore", str(theirs.folder / "jobs.queuedb.replaced-1")), {}),
    ]:
        done = command.run(*arguments, **env, **more)
        assert done.returncode == 0, done.stderr
        assert theirs.owners() == owner, arguments
        assert theirs.mode() == 0o640, "of what it replaced"
    done = command.run("backup", "--force", str(theirs.database), DB_PATH=str(server.database))
    assert done.returncode == 0, done.stderr
    assert (theirs.owners(), theirs.mode()) == (owner, 0o640)


def test_a_new_database_in_the_folder_of_a_service_is_the_services(tmp_path: Path) -> None:
    theirs = Theirs(tmp_path / "theirs")
    done = command.run("keys", "create", "a", DB_PATH=str(theirs.database))
    assert done.returncode == 0, done.stderr
    assert theirs.owners() == {(theirs.UID, theirs.GID)}


@pytest.mark.parametrize("kind_", ["device", "pipe", "folder", "link", "dangling"])
def test_a_backup_replaces_no_special_file(tmp_path: Path, server: Server, kind_: str) -> None:
    dest, older = tmp_path / "dest", tmp_path / "older"
    older.write_text("an older backup")
    if kind_ == "device":
        try:
            os.mknod(dest, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("no device can be made here")
    elif kind_ == "pipe":
        os.mkfifo(dest)
    elif kind_ == "folder":
        dest.mkdir()
    else:
        dest.symlink_to(older if kind_ == "link" else tmp_path / "nowhere")
    before = dest.lstat()
    done = command.run_beside(server, "backup", "--force", str(dest))
    assert (done.returncode, "expected a regular file" in done.stderr) == (2, True), done.stderr
    assert dest.lstat().st_ino == before.st_ino
    assert older.read_text() == "an older backup"


def test_a_database_that_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "jobs.queuedb")
    assert "is no regular file" in refused(Server(tmp_path, CONFIG))
