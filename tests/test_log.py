"""The -wal: where it breaks off, and what is read from it where the file is torn."""

import random
import shutil
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobengine.domain.errors import CannotOpen
from jobengine.store.sqlcipher.checksums import Sums, sums_of
from jobengine.store.sqlcipher.cipher import CipherFile
from jobengine.store.sqlcipher.wal import damage_of_log, newest_page, pages_in_log
from tests.harness import command
from tests.harness.filling import CONFIG, stored
from tests.harness.server import SECRET, Server
from tests.test_backup import succeeded

PAGE = 4096
KEY = SECRET.encode()


def summed(data: bytes, order: str, sums: Sums) -> Sums:
    """The checksum as https://www.sqlite.org/fileformat2.html#checksum_algorithm has it."""
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for index in range(0, len(words), 2):
        first = (first + words[index] + second) & 0xFFFFFFFF
        second = (second + words[index + 1] + first) & 0xFFFFFFFF
    return first, second


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", [8, 16, 512, 4096, 65536])
def test_checksums_are_those_of_the_format(order: str, size: int) -> None:
    dice = random.Random(size)
    for data in (dice.randbytes(size), b"\xff" * size, bytes(size)):
        for sums in ((0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (1, dice.getrandbits(32))):
            assert sums_of(data, order, sums) == summed(data, order, sums)


def write_log(database: Path, frames: list[tuple[int, bool]], order: str = "<") -> None:
    """A log of pages with those numbers, each of which ends a commit or does not."""
    head = struct.pack(">6I", 0x377F0682 | (order == ">"), 3007000, PAGE, 0, 1, 2)
    sums = summed(head, order, (0, 0))
    with database.with_name(database.name + "-wal").open("wb") as log:
        log.write(head + struct.pack(">2I", *sums))
        for place, (number, commits) in enumerate(frames):
            start, page = struct.pack(">2I", number, commits), struct.pack(">I", place) * 1024
            sums = sums_of(page, order, sums_of(start, order, sums))
            log.write(start + struct.pack(">4I", 1, 2, *sums) + page)


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_is_read_from_a_log_is_what_was_committed(tmp_path: Path, order: str) -> None:
    database = tmp_path / "jobs.queuedb"
    assert newest_page(database, 1) is None
    write_log(database, [(1, False), (2, True), (1, True), (3, True), (4, False)], order)
    assert newest_page(database, 1) == struct.pack(">I", 2) * 1024
    assert newest_page(database, 4) is None, "it was not committed"
    assert pages_in_log(database, {2, 3, 4, 5}) == {2, 3}
    assert damage_of_log(database) == []
    log = database.with_name("jobs.queuedb-wal")
    damaged = bytearray(log.read_bytes())
    damaged[32 + 2 * (PAGE + 24) + 100] ^= 1
    log.write_bytes(damaged)
    assert newest_page(database, 1) == bytes(PAGE)
    assert pages_in_log(database, {2, 3}) == {2}
    assert "place 3" in damage_of_log(database)[0]
    assert "2 commits" in damage_of_log(database)[0]


def test_a_long_log_is_read_a_frame_at_a_time_and_says_how_far(tmp_path: Path) -> None:
    database, frames = tmp_path / "jobs.queuedb", 4000
    write_log(database, [(number, True) for number in range(1, frames + 1)])
    told: list[tuple[int, int]] = []
    tracemalloc.start()
    try:
        assert damage_of_log(database, lambda _, done, of: told.append((done, of))) == []
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 3_000_000, "of 16 million bytes"
    assert told == [(done, frames) for done in range(256, frames, 256)]


def test_a_break_that_a_server_fills_meanwhile_is_none(tmp_path: Path) -> None:
    """Its frames were read before it wrote them, and the commits behind them after."""
    database = tmp_path / "jobs.queuedb"
    log = database.with_name("jobs.queuedb-wal")
    write_log(database, [(1, True)] * 300)
    whole = log.read_bytes()
    place = 32 + 290 * (PAGE + 24)
    old = whole[:place] + bytes(100) + whole[place + 100 :]
    log.write_bytes(old)
    assert "place 291" in damage_of_log(database)[0]

    def write(*_: object) -> None:
        log.write_bytes(whole)

    assert damage_of_log(database, write) == []


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder that a killed server left, with the first page in the log; its jobs."""
    folder = tmp_path_factory.mktemp("crashed")
    server = Server(folder, CONFIG).start()
    jobs = [server.api().made(content={"filler": "x" * 50_000}) for _ in range(10)]
    server.kill()
    return folder, {job["uid"]: job for job in jobs}


def torn(first: bytes) -> Iterator[bytes]:
    """First pages of which a checkpoint has written some sectors, and not the others."""
    for sector in range(0, PAGE, 512):
        other = bytearray(first)
        start = max(sector, 16)  # the salt is the same in every version of the page
        other[start : sector + 512] = bytes(sector + 512 - start)
        yield bytes(other)


def test_a_torn_first_page_is_judged_by_the_log(
    tmp_path: Path, crashed: tuple[Path, dict[str, Any]]
) -> None:
    path, log = tmp_path / "jobs.queuedb", tmp_path / "jobs.queuedb-wal"
    data = (crashed[0] / "jobs.queuedb").read_bytes()
    for page in torn(data[:PAGE]):
        shutil.copy(crashed[0] / "jobs.queuedb-wal", log)
        path.write_bytes(page + data[PAGE:])
        before = path.read_bytes(), log.read_bytes()
        with pytest.raises(CannotOpen, match="SECRET does not open"):
            CipherFile(path, b"wrong")
        assert "nothing is damaged" in succeeded(command.run("verify", "--db", str(path)))
        assert (path.read_bytes(), log.read_bytes()) == before
        log.unlink()
        with pytest.raises(CannotOpen, match="or the file is damaged"):
            CipherFile(path, KEY)
    shutil.copy(crashed[0] / "jobs.queuedb-wal", log)
    assert stored(tmp_path) == crashed[1]


def test_a_log_that_is_not_read_opens_nothing(
    tmp_path: Path, crashed: tuple[Path, dict[str, Any]]
) -> None:
    path = tmp_path / "jobs.queuedb"
    log = bytearray((crashed[0] / "jobs.queuedb-wal").read_bytes())
    log[40] ^= 1  # of the salt of the first frame
    path.with_name("jobs.queuedb-wal").write_bytes(log)
    data = (crashed[0] / "jobs.queuedb").read_bytes()
    path.write_bytes(next(torn(data[:PAGE])) + data[PAGE:])
    with pytest.raises(CannotOpen, match="or the file is damaged"):
        CipherFile(path, KEY)


def test_every_connection_has_what_it_syncs_on_disk_on_macos(
    crashed: tuple[Path, dict[str, Any]],
) -> None:
    """There an fsync leaves it in the disk's cache; elsewhere the pragmas do nothing."""
    with closing(CipherFile(crashed[0] / "jobs.queuedb", KEY).connect("?mode=ro")) as connection:
        for pragma in ("fullfsync", "checkpoint_fullfsync"):
            assert connection.execute(f"PRAGMA {pragma}").fetchone() == (1,)


def test_a_file_that_was_cut_off_while_it_was_made_is_made_anew(tmp_path: Path) -> None:
    """SQLite's rollback journal says that there was nothing before, so nothing can be in it."""
    path, journal = tmp_path / "jobs.queuedb", tmp_path / "jobs.queuedb-journal"
    head = bytes.fromhex("d9d505f920a163d7") + struct.pack(">5I", 0, 7, 0, 512, PAGE)
    for size in (7, 1536, PAGE):
        path.write_bytes(b"\x9c" * size)
        journal.write_bytes(head.ljust(512, b"\0"))
        empty = command.run("verify", "--db", str(path))
        assert (empty.returncode, "is empty" in empty.stderr) == (1, True), empty
        assert path.read_bytes() == b"\x9c" * size
        with Server(tmp_path, CONFIG) as server:
            server.api().made()
        assert not journal.exists()
        assert len(stored(tmp_path)) == 1
    data = path.read_bytes()
    for pages, written in ((1, head[:16] + struct.pack(">3I", 1, 512, PAGE)), (0, head[:20])):
        journal.write_bytes(written)
        with pytest.raises(CannotOpen, match="SECRET does not open"):
            CipherFile(path, b"wrong")
        assert path.read_bytes() == data, pages
    journal.unlink()
