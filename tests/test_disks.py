"""Full and failing disks: no call is lied to, nothing acknowledged is lost, no restart needed."""

import errno
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.client import Answer, Api
from tests.harness.disks import BadDisk, SmallDisk
from tests.harness.server import Server
from tests.test_bad_input import assert_problem
from tests.test_crash import CLIENTS, CONFIG, Client, Ledger, check
from tests.test_outages import ready, until_done

UNSURE = "outcome-unknown"


@pytest.fixture
def disk(tmp_path: Path) -> BadDisk:
    return BadDisk(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "small", megabytes=16)
    yield disk
    disk.close()


def on(disk: BadDisk, folder: Path) -> Server:
    return Server(folder, CONFIG, arguments=(), **disk.env)


def kind(answer: Answer) -> str:
    problem = assert_problem(answer, 503)
    assert int(answer.headers["retry-after"]) > 0
    return str(problem["type"]).rpartition(":")[2]


def numbers(api: Api) -> set[int]:
    return {job["content"]["n"] for job in api.listed()}


FAILURES = [
    ("fsync", "EIO", UNSURE),
    ("fsync", "ENOSPC", UNSURE),
    ("pwrite", "EIO", UNSURE),
    ("pwrite", "ENOSPC", "store-failed"),
]


@pytest.mark.parametrize(("call", "error", "told"), FAILURES)
def test_a_failed_commit_is_told_as_what_it_is_after_a_crash(
    tmp_path: Path, disk: BadDisk, call: str, error: str, told: str
) -> None:
    """A commit that was written but not synced is found by the next start, or it is not."""
    server = on(disk, tmp_path).start()
    api = server.api()
    made = api.made(content={"n": 0})
    disk.fail(call, error, "-wal")
    assert kind(api.create({"n": 1})) == told
    assert kind(api.update(made["uid"], content={"n": 2})) == told
    assert kind(ready(api)) == "store-failed"
    assert api.get(made["uid"]).json() == made
    server.kill()
    disk.mend()
    with on(disk, tmp_path) as server:
        found = numbers(server.api())
        assert found <= ({0, 1, 2} if told == UNSURE else {0})
        assert found & {0, 2}


@pytest.mark.parametrize(("call", "error", "told"), FAILURES)
def test_a_disk_that_works_again_needs_no_restart(
    tmp_path: Path, disk: BadDisk, call: str, error: str, told: str
) -> None:
    server = on(disk, tmp_path).start()
    api = server.api()
    assert api.create({"n": 0}).status == 201
    for number in (1, 3, 5):
        disk.fail(call, error, "-wal")
        assert kind(api.create({"n": number})) == told
        disk.mend()
        assert api.create({"n": number + 1}).status == 201
        assert ready(api).status == 200
    assert numbers(api) == {0, 2, 4, 6}
    server.kill()
    with on(disk, tmp_path) as server:
        assert numbers(server.api()) == {0, 2, 4, 6}, "later commits took the failed ones' place"


def test_a_server_on_a_bad_disk_is_not_ready_however_often_it_is_asked(
    tmp_path: Path, disk: BadDisk
) -> None:
    with on(disk, tmp_path) as server:
        api = server.api()
        disk.fail("fsync", "EIO", "-wal")
        assert api.create().status == 503
        # For longer than a failed commit counts without another look.
        tries = [ready(api).status for _ in range(2) for _ in server_turns(api)]
        assert set(tries) == {503}
        disk.mend()
        until_done(lambda: ready(api), 200)


def server_turns(api: Api) -> Iterator[int]:
    """A waiting claim, which takes a second of the server's own time."""
    yield api.send("GET", "/api/v1/jobs/next?wait=1").status


@pytest.mark.parametrize("call", ["fsync", "pwrite"])
def test_a_checkpoint_that_fails_loses_nothing(tmp_path: Path, disk: BadDisk, call: str) -> None:
    """The log keeps what the file could not take, until it can, or over a crash."""
    server = on(disk, tmp_path).start()
    api = server.api()
    disk.fail(call, "EIO", ".queuedb")
    for number in range(30):
        assert api.create({"n": number, "filler": "x" * 300_000}).status == 201
    log = server.database.with_name(server.database.name + "-wal")
    assert log.stat().st_size > 9_000_000, "the log was not begun anew"
    assert server.stop() == 0
    disk.mend()
    server = on(disk, tmp_path).start()
    assert numbers(server.api()) == set(range(30))
    disk.fail(call, "EIO", ".queuedb")
    for number in range(30, 60):
        assert server.api().create({"n": number, "filler": "x" * 300_000}).status == 201
    server.kill()
    disk.mend()
    with on(disk, tmp_path) as server:
        assert numbers(server.api()) == set(range(60))


@pytest.mark.parametrize(("call", "error", "told"), FAILURES)
def test_nothing_acknowledged_is_lost_under_load_on_a_disk_that_comes_and_goes(
    tmp_path: Path, disk: BadDisk, call: str, error: str, told: str
) -> None:
    ledger = Ledger()
    for round_ in range(2):
        server = on(disk, tmp_path).start()
        check(server.api(), ledger)
        clients = [Client(server.api(), ledger, seed=round_ * 10 + n) for n in range(CLIENTS)]
        for client in clients:
            client.start()
        for _ in range(4):
            grows(clients[0], lambda: len(ledger.known), by=15)
            disk.fail(call, error, "-wal")
            grows(clients[0], lambda: ledger.refusals[told], by=3)
            disk.mend()
        grows(clients[0], lambda: len(ledger.known), by=15)
        if round_:
            disk.fail(call, error, "-wal")
        server.kill()
        for client in clients:
            client.join()
        if round_:
            disk.mend()
    with on(disk, tmp_path) as server:
        check(server.api(), ledger)
    assert ledger.refusals[told] > 10, ledger.refusals
    assert len(ledger.known) > 100, "there was load"


def grows(client: Client, count: Callable[[], int], by: int) -> None:
    """Waits, for as long as the client calls, until the count has grown by so much."""
    wanted = count() + by
    while count() < wanted:
        client.join(0.01)
        assert client.is_alive(), "there is no load"


def test_a_full_disk_refuses_and_recovers_without_a_restart(
    tmp_path: Path, small: SmallDisk
) -> None:
    ledger = Ledger()
    two_queues = f"{CONFIG}  filling: {{read: ['*'], write: ['*']}}\n"
    with Server(small.folder / "data", two_queues) as server:
        api, filling = server.api(), server.api("filling")

        def ready_when_stuffed() -> Answer:
            # What is small may still fit, and make the server ready again for a moment.
            filling.create({"filler": "x" * 30_000})
            return ready(api)

        for _ in range(2):
            clients = [Client(server.api(), ledger, seed=number) for number in range(CLIENTS)]
            for client in clients:
                client.start()
            clients[0].join(0.3)
            small.fill()
            assert kind(until_done(ready_when_stuffed, 503)) == "store-failed"
            assert api.send("GET", "/livez").status == 200
            for client in clients:
                client.stopping = True
            for client in clients:
                client.join()
            small.free()
            until_done(lambda: ready(api), 200)
            check(api, ledger)
    assert ledger.refusals["store-failed"] > 0
    assert len(ledger.known) > 50, "there was load"


def test_a_start_takes_the_log_of_a_crash_into_the_file(tmp_path: Path) -> None:
    """What was never synced is written anew, before anything is synced behind it."""
    server = Server(tmp_path, CONFIG).start()
    assert server.api().create({"n": 1, "filler": "x" * 500_000}).status == 201
    log = server.database.with_name(server.database.name + "-wal")
    server.kill()
    assert log.stat().st_size > 500_000
    with Server(tmp_path, CONFIG) as server:
        assert log.stat().st_size < 500_000
        assert server.database.stat().st_size > 500_000
        assert numbers(server.api()) == {1}
        assert "emptied" not in server.stderr


def test_a_full_disk_and_kill_9_lose_nothing(tmp_path: Path, small: SmallDisk) -> None:
    answers: Counter[int] = Counter()
    server = Server(small.folder / "data", CONFIG).start()
    api, kept = server.api(), set()
    small.fill()
    for number in range(60):
        answer = api.create({"n": number, "filler": "x" * 30_000})
        answers[answer.status] += 1
        if answer.status == 201:
            kept.add(number)
    assert answers[503] > 0
    server.kill()
    small.free()
    with Server(small.folder / "data", CONFIG) as server:
        assert numbers(server.api()) == kept


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_database_that_cannot_be_written_is_refused_at_the_start(
    tmp_path: Path, small: SmallDisk, what: str
) -> None:
    folder = small.folder / "data"
    with Server(folder, CONFIG) as server:
        assert server.api().create({"n": 1}).status == 201
    place = small.folder if what == "folder" else server.database
    with read_only(place):
        before = server.database.read_bytes()
        refused = Server(folder)
        refused.launch()
        code, printed = refused.result()
        assert (code, "Read-only file system (EROFS)" in printed) == (1, True), printed
        assert "Traceback" not in printed
        assert server.database.read_bytes() == before
    with Server(folder) as server:
        assert numbers(server.api()) == {1}


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Has a mounted folder, or a file in it, read-only."""
    if place.is_file():
        subprocess.run(["mount", "--bind", place, place], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
    yield
    if place.is_file():
        subprocess.run(["umount", place], check=True)
    else:
        subprocess.run(["mount", "-o", "remount,bind,rw", place], check=True)


def test_a_full_disk_refuses_a_start_and_says_why(tmp_path: Path, small: SmallDisk) -> None:
    folder = small.folder / "data"
    with Server(folder, CONFIG) as server:
        assert server.api().create({"n": 1}).status == 201
    small.fill()
    server = Server(folder)
    server.launch()
    code, printed = server.result()
    assert (code, "cannot be" in printed, "Traceback" in printed) == (1, True, False), printed
    small.free()
    with Server(folder) as server:
        assert numbers(server.api()) == {1}


def test_a_server_that_met_a_damaged_page_is_not_ready_any_more(tmp_path: Path) -> None:
    """Also where all that its readiness looks at is sound."""
    with Server(tmp_path, CONFIG) as server:
        whole = server.api().made(content={"filler": "x" * 900_000})
        assert server.api().create({"n": 1}).status == 201
    pages = bytearray(server.database.read_bytes())
    place = len(pages) // 2 // 4096 * 4096  # of the long content
    pages[place + 100] ^= 1
    server.database.write_bytes(pages)
    with Server(tmp_path) as server:
        api = server.api()
        assert ready(api).status == 200
        assert kind(api.get(whole["uid"])) == "store-failed"
        server.wait_for(
            "the database is damaged: the server is not ready any more; run `jobengine verify`"
        )
        assert api.create({"n": 2}).status == 201, "what needs no such page goes on"
        answer = ready(api)
        assert kind(answer) == "store-failed"
        assert "jobengine verify" in answer.json()["detail"]


@pytest.mark.parametrize("error", ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EINVAL"])
def test_a_file_system_without_locks_is_not_taken_for_a_file_in_use(
    tmp_path: Path, disk: BadDisk, error: str
) -> None:
    disk.fail("flock", error, ".lock")
    server = on(disk, tmp_path)
    server.launch()
    code, printed = server.result()
    name = errno.errorcode[getattr(errno, error)]  # some have two
    assert (code, f"({name})" in printed, "in use" in printed) == (1, True, False), printed
    assert not server.database.exists()
