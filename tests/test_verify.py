"""Verify: every changed bit of a file is found, and a server on it is never silently wrong."""

import random
import shutil
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlcipher3 import dbapi2 as sqlcipher

from jobengine.config.settings import DatabaseUrl
from jobengine.domain.errors import CannotOpen
from jobengine.store.database import Use
from jobengine.store.migrate import downgrade
from jobengine.store.opening import open_database
from jobengine.store.sqlcipher.cipher import CipherFile
from jobengine.store.sqlcipher.integrity import check
from jobengine.store.sqlcipher.wal import damage_of_log
from tests.harness import command
from tests.harness.filling import CONFIG, Creator, fill, filled
from tests.harness.postgresql import Cluster
from tests.harness.server import SECRET, Server
from tests.test_backup import succeeded

PAGE = 4096
KEY = SECRET.encode()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, Any]]:
    """A database at rest, of pages of every kind, and its jobs."""
    folder = tmp_path_factory.mktemp("original")
    with Server(folder, CONFIG) as server:
        fill(server.api(), 500)
        server.api().made(content={"filler": "x" * 50_000})
        jobs = {job["uid"]: job for job in server.api().listed()}
    return (folder / "jobs.queuedb").read_bytes(), jobs


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A folder that a killed server left, with a log of many commits; its jobs, in order."""
    folder = tmp_path_factory.mktemp("logged")
    server = Server(folder, CONFIG).start()
    jobs = [server.api().made(content={"n": n}) for n in range(30)]
    server.kill()
    return folder, jobs


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def bits(size: int, count: int) -> list[int]:
    """Bits all over a file: of its salt, of the first page's rest, and of random pages."""
    dice = random.Random(5)
    salt = [dice.randrange(16 * 8) for _ in range(2)]
    first = [dice.randrange(16 * 8, PAGE * 8) for _ in range(3)]
    return [*salt, *first, *(dice.randrange(size * 8) for _ in range(count)), size * 8 - 1]


def damage(path: Path) -> list[str]:
    """What the check finds, or why it cannot be made."""
    try:
        return check(CipherFile(path, KEY), lambda *_: None).damage
    except CannotOpen as error:
        return [str(error)]


def test_a_sound_database_is_said_to_be_sound(
    tmp_path: Path, original: tuple[bytes, dict[str, Any]]
) -> None:
    path = tmp_path / "jobs.queuedb"
    path.write_bytes(original[0])
    said = succeeded(command.run("verify", "--db", str(path)))
    assert said == "501 jobs in 1 queue(s): nothing is damaged\n"
    assert [each.name for each in tmp_path.iterdir()] == ["jobs.queuedb"], "it is only looked at"


def test_every_flipped_bit_of_a_file_is_found(
    tmp_path: Path, original: tuple[bytes, dict[str, Any]]
) -> None:
    path, data = tmp_path / "jobs.queuedb", original[0]
    for bit in bits(len(data), 50):
        path.write_bytes(flipped(data, bit))
        found = damage(path)
        assert found, f"bit {bit}"
        page = bit // 8 // PAGE + 1
        assert page == 1 or f"page {page}" in found[0]


def test_a_file_that_was_cut_grown_or_mixed_is_found(
    tmp_path: Path, original: tuple[bytes, dict[str, Any]]
) -> None:
    path, data = tmp_path / "jobs.queuedb", original[0]
    swapped = data[: 9 * PAGE] + data[10 * PAGE : 11 * PAGE] + data[9 * PAGE :]
    for changed in (data[:-1], data[:-PAGE], data + b"\0" * PAGE, data[:100], swapped):
        path.write_bytes(changed)
        assert damage(path)


def test_the_command_tells_all_that_is_wrong_and_exits_1(
    tmp_path: Path, original: tuple[bytes, dict[str, Any]]
) -> None:
    path, data = tmp_path / "jobs.queuedb", original[0]
    path.write_bytes(flipped(flipped(data, 8 * 7 * PAGE), 8 * 29 * PAGE + 99))
    found = command.run("verify", "--db", str(path))
    assert found.returncode == 1
    assert "2 thing(s) are wrong" in found.stderr
    assert "page 30" in found.stderr
    assert "page 8" in found.stderr
    wrong = command.run("verify", "--db", str(path), SECRET="wrong")
    assert (wrong.returncode, "SECRET does not open" in wrong.stderr) == (1, True)
    absent = command.run("verify", "--db", str(tmp_path / "absent"))
    assert (absent.returncode, "is not there" in absent.stderr) == (1, True)
    assert command.run("verify", DATABASE_URL="mysql://host/db").returncode == 2


def test_what_does_not_fit_together_is_found(
    tmp_path: Path, original: tuple[bytes, dict[str, Any]]
) -> None:
    """Every page is as it was written, but what was written is wrong."""
    path = tmp_path / "jobs.queuedb"
    path.write_bytes(original[0])
    with closing(CipherFile(path, KEY).connect()) as connection:
        connection.execute("DELETE FROM depth")
        connection.execute("DELETE FROM queue")
    assert "refers to a queue that is not there" in damage(path)[0]
    assert len(damage(path)) == 501
    path.write_bytes(original[0])
    with closing(CipherFile(path, KEY).connect()) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = 'job_uid'")
    assert "never used" in damage(path)[0]


def test_no_false_alarm_beside_a_server_under_load(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG) as server:
        fill(server.api(), 2000)
        with Creator(server.api(), "live") as load:
            before = len(load.acknowledged)
            for _ in range(3):
                succeeded(command.run("verify", DB_PATH=str(server.database)))
            assert len(load.acknowledged) > before, "and it goes on serving"


def test_flipped_bits_of_a_log_are_found_but_for_those_of_its_last_commit(
    tmp_path: Path, logged: tuple[Path, list[dict[str, Any]]]
) -> None:
    path, log = tmp_path / "jobs.queuedb", (logged[0] / "jobs.queuedb-wal").read_bytes()
    shutil.copy(logged[0] / "jobs.queuedb", path)
    wal = tmp_path / "jobs.queuedb-wal"
    wal.write_bytes(log)
    assert damage_of_log(path) == []
    last = last_commit(log)
    for bit in bits(last, 40):
        wal.write_bytes(flipped(log, bit))
        assert damage_of_log(path), f"bit {bit}"
    wal.write_bytes(flipped(log, 8 * last + 8 * 200))
    assert damage_of_log(path) == [], "it looks as if it had been cut off"
    for size in (len(log) - 10, 33, 10, 0):
        wal.write_bytes(log[:size])
        assert damage_of_log(path) == []


def last_commit(log: bytes) -> int:
    """Where the last commit of a log begins, in bytes."""
    commits = [
        at
        for at in range(32, len(log), PAGE + 24)
        if log[at + 4 : at + 8] != bytes(4) and log[at + 8 : at + 16] == log[16:24]
    ]
    return commits[-2] + PAGE + 24


def test_what_is_read_of_a_log_with_a_flipped_bit_is_what_was_committed_before(
    tmp_path: Path, logged: tuple[Path, list[dict[str, Any]]]
) -> None:
    path, uids = tmp_path / "jobs.queuedb", [job["uid"].replace("-", "") for job in logged[1]]
    log = (logged[0] / "jobs.queuedb-wal").read_bytes()
    lengths = set()
    for bit in bits(len(log), 30):
        shutil.copy(logged[0] / "jobs.queuedb", path)
        (tmp_path / "jobs.queuedb-wal").write_bytes(flipped(log, bit))
        (tmp_path / "jobs.queuedb-shm").unlink(missing_ok=True)
        there = []
        with (
            suppress(sqlcipher.OperationalError),  # no table before the first migration
            CipherFile(path, KEY).snapshot() as connection,
        ):
            rows = connection.execute("SELECT lower(hex(uid)) FROM job ORDER BY id")
            there = [uid for (uid,) in rows]
        assert there == uids[: len(there)]
        lengths.add(len(there))
    assert len(lengths) > 5


def test_a_server_on_a_flipped_file_is_never_silently_wrong(
    tmp_path: Path, original: tuple[bytes, dict[str, Any]]
) -> None:
    data, jobs = original
    refused = answered = 0
    for bit in bits(len(data), 5)[1:]:
        (tmp_path / "jobs.queuedb").write_bytes(flipped(data, bit))
        server = Server(tmp_path, CONFIG)
        try:
            server.start()
        except AssertionError:
            assert server.process.wait() == 1
            refused += 1
        else:
            answered += look(server, jobs)
            server.kill()
        for path in tmp_path.glob("jobs*"):
            path.unlink()
    assert refused
    assert answered


def test_what_cannot_be_read_spoils_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "jobs.queuedb"
    with Server(tmp_path, CONFIG) as server:
        good = server.api().made(content={"filler": "x" * 9000})
    with Server(tmp_path, CONFIG) as server:
        bad = server.api().made(content={"filler": "x" * 9000})
    data = path.read_bytes()
    path.write_bytes(flipped(data, 8 * (len(data) - PAGE + 100)))  # the newest page, of its content
    with Server(tmp_path, CONFIG) as server:
        api = server.api()
        for _ in range(3):
            assert api.get(bad["uid"]).status == 503
            assert api.get(good["uid"]).json() == good


def look(server: Server, jobs: dict[str, Any]) -> int:
    """Asks for every job; each answer is right, or a 503. How many were right."""
    api, right = server.api(), 0
    for uid, job in jobs.items():
        answer = api.get(uid)
        assert answer.status in (200, 503)
        assert answer.status == 503 or answer.json() == job
        right += answer.status == 200
    return right


def test_every_damaged_content_on_postgresql_is_told_by_its_uid(
    tmp_path: Path, cluster: Cluster
) -> None:
    url = cluster.new_database()
    uids = list(filled(tmp_path, 1300, DATABASE_URL=url))
    assert "1,300 jobs in 1 queue(s): nothing" in succeeded(command.run("verify", DATABASE_URL=url))
    flip = "UPDATE job SET content = set_byte(content, {at}, get_byte(content, {at}) # 1)"
    damaged = []
    dice = random.Random(3)
    for at in (0, 1, 2, 13, 14, 40, 900):
        uid = uids[dice.randrange(len(uids))]
        cluster.execute_in(url, f"{flip.format(at=at)} WHERE uid = '{in_sql(uid)}'")
        damaged.append(uid)
    one, other = uids[5], uids[1200]
    swap = "UPDATE job SET content = (SELECT content FROM job WHERE uid = '{}') WHERE uid = '{}'"
    cluster.execute_in(url, swap.format(in_sql(one), in_sql(other)))
    damaged.append(other)
    with Server(tmp_path, CONFIG, DATABASE_URL=url) as server:
        found = command.run("verify", "--database-url", url)
        assert server.api().get(other).json()["content"] is None
    assert found.returncode == 1
    assert f"{len(set(damaged))} thing(s) are wrong" in found.stderr
    for uid in damaged:
        assert uid in found.stderr


def test_a_database_of_a_version_before_is_checked_as_it_is(
    tmp_path: Path, cluster: Cluster
) -> None:
    url = cluster.new_database()
    filled(tmp_path, 3, DATABASE_URL=url)
    with closing(open_database(DatabaseUrl(url), SECRET.encode(), Use.ALONE)) as database:
        downgrade(database, "0004")
    assert "3 jobs in 1 queue(s): nothing" in succeeded(command.run("verify", DATABASE_URL=url))
    with Server(tmp_path, CONFIG, DATABASE_URL=url) as server:
        assert len(server.api().listed()) == 3


def in_sql(uid: str) -> str:
    return "\\x" + uid.replace("-", "")


def test_what_does_not_fit_together_on_postgresql_is_found(
    tmp_path: Path, cluster: Cluster
) -> None:
    url = cluster.new_database()
    filled(tmp_path, 3, DATABASE_URL=url)
    key = "FOREIGN KEY (queue_id) REFERENCES queue (id) NOT VALID"
    for statement in (
        "ALTER TABLE job DROP CONSTRAINT job_queue_id_fkey",
        "DELETE FROM depth",
        "DELETE FROM queue",
        f"ALTER TABLE job ADD CONSTRAINT job_queue_id_fkey {key}",
    ):
        cluster.execute_in(url, statement)
    found = command.run("verify", DATABASE_URL=url)
    assert found.returncode == 1
    assert found.stderr.count("queue 1 that is not there") == 3
    assert "job_queue_id_fkey is not validated" in found.stderr
    empty = command.run("verify", DATABASE_URL=cluster.new_database())
    assert (empty.returncode, "no queues and jobs" in empty.stderr) == (1, True)
