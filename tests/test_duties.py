"""The duties: what they do for real, what they log, and that one of them may fail."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import func, select

from jobengine.domain.clock import JUMP_SECONDS, SETTLE_SECONDS
from jobengine.domain.queue import Queue, Right
from jobengine.engine.duties.duty import CHUNK
from jobengine.engine.duties.runner import DutyRunner
from jobengine.store.opening import open_database
from jobengine.store.tables.models import job, queue
from jobengine.store.writing.operations import Create, NewJob
from jobengine.wsgi import Service
from tests.conftest import KEEP, WINDOW, Databases, launch_in
from tests.harness.client import Api, WsgiTransport
from tests.harness.clock import FileClock
from tests.harness.server import SECRET, Server

QUEUES = "version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n  r: {read: ['*'], write: ['*']}\n"


class Bench:
    """A service on a clock of its own, whose duties run when a test says so."""

    def __init__(self, folder: Path, database: dict[str, str]) -> None:
        self.folder = folder
        self.database = database
        self.clock = FileClock(folder / "clock")
        self.start(QUEUES)

    def start(self, config: str) -> None:
        (self.folder / "config.yml").write_text(config)
        self.service = Service(launch_in(self.folder, **self.database), self.clock)
        self.api = Api(WsgiTransport(self.service.app), "q")

    def restart(self, config: str) -> None:
        self.service.stop()
        self.start(config)

    def sweep(self) -> list[dict[str, Any]]:
        """Runs the duties once; what they logged."""
        with structlog.testing.capture_logs() as logged:
            self.service._duties.run_once()
        return [dict(entry) for entry in logged]

    def states(self) -> dict[int, int]:
        """The number of stored jobs by the number of their state."""
        with self.service._database.readers.connect() as connection:
            rows = connection.execute(select(job.c.state, func.count()).group_by(job.c.state))
            return dict(iter(rows))


@pytest.fixture
def bench(tmp_path: Path, database: dict[str, str]) -> Iterator[Bench]:
    made = Bench(tmp_path, database)
    yield made
    made.service.stop()


def entry(event: str, jobs: int, name: str = "q") -> dict[str, Any]:
    return {
        "component": "duties",
        "event": event,
        "queue": name,
        "jobs": jobs,
        "log_level": "info",
    }


def test_expired_jobs_are_deleted_and_logged(bench: Bench) -> None:
    bench.api.made(valid_for=10)
    alive = bench.api.made(valid_for=11)
    bench.clock.advance(10)
    assert bench.sweep() == []
    bench.clock.advance(1)
    assert bench.sweep() == [entry("jobs expired", 1)]
    assert bench.states() == {0: 1}
    assert bench.api.listed() == [alive]


def test_a_backlog_is_worked_off_in_chunks(bench: Bench) -> None:
    now = bench.clock.now()
    here = bench.service.queues.authorise("anyone", "q", Right.READ)
    new = [NewJob(n.to_bytes(16), 1, now, now + 1, 1, b"{}") for n in range(2 * CHUNK + 1)]
    bench.service._writer.submit(Create(here, new))
    bench.clock.advance(2)
    assert bench.sweep() == [entry("jobs expired", 2 * CHUNK + 1)]
    assert bench.states() == {}


def test_overdue_jobs_fail_as_of_the_end_of_their_window(bench: Bench) -> None:
    made = bench.api.made("inprogress")
    bench.clock.advance(WINDOW)
    assert bench.sweep() == []
    bench.clock.advance(500)
    assert bench.sweep() == [entry("jobs failed by their window", 1)]
    assert bench.states() == {3: 1}
    assert bench.api.get(made["uid"]).json() == made | {
        "state": "failed",
        "last_updated": made["last_updated"] + WINDOW,
    }


def test_a_heartbeat_puts_the_failure_off(bench: Bench) -> None:
    made = bench.api.made("inprogress")
    bench.sweep()
    bench.clock.advance(WINDOW)
    bench.api.update(made["uid"])
    bench.clock.advance(WINDOW)
    assert bench.sweep() == []
    bench.clock.advance(1)
    assert bench.sweep() == [entry("jobs failed by their window", 1)]


def test_a_job_claimed_after_a_look_fails_in_its_time(bench: Bench) -> None:
    bench.sweep()
    bench.clock.advance(5)
    bench.api.made("inprogress")
    bench.clock.advance(WINDOW)
    assert bench.sweep() == []
    bench.clock.advance(1)
    assert bench.sweep() == [entry("jobs failed by their window", 1)]


def test_a_clock_set_back_starts_the_looks_anew(bench: Bench) -> None:
    bench.sweep()
    bench.clock.advance(-10 * WINDOW)
    bench.sweep()
    bench.api.made("inprogress")
    bench.clock.advance(WINDOW + 1)
    assert bench.sweep() == [entry("jobs failed by their window", 1)]


def test_the_jobs_in_progress_are_walked_only_when_one_can_be_overdue(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, looks = bench.service._reads, list[Queue]()
    overdue = reads.overdue

    def look(queue: Queue, now: int, limit: int) -> list[int]:
        looks.append(queue)
        return overdue(queue, now, limit)

    monkeypatch.setattr(reads, "overdue", look)
    bench.api.made("inprogress")
    bench.sweep()
    seen = len(looks)
    bench.clock.advance(WINDOW)
    bench.sweep()
    assert len(looks) == seen == 1, "one look at a queue with jobs in progress, none at others"
    bench.clock.advance(1)
    bench.sweep()
    assert len(looks) > seen


def test_a_backlog_of_overdue_jobs_is_failed_in_chunks(bench: Bench) -> None:
    for _ in range(2 * CHUNK + 1):
        bench.api.create()
    for _ in range(3):
        bench.api.send("GET", f"/api/v1/jobs/next?count={CHUNK}")
    bench.clock.advance(WINDOW + 2)  # a claim is a second later than the create at least
    assert bench.sweep() == [entry("jobs failed by their window", 2 * CHUNK + 1)]


def test_finished_jobs_are_pruned_after_their_keep_time(bench: Bench) -> None:
    for state in ("complete", "failed", "complete"):
        bench.api.made(state)
    bench.clock.advance(KEEP)
    assert bench.sweep() == []
    bench.clock.advance(1)
    assert bench.sweep() == [entry("jobs pruned", 3)]
    assert bench.states() == {}


def test_a_job_left_in_progress_fails_and_is_pruned_by_one_sweep(bench: Bench) -> None:
    bench.api.made("inprogress")
    bench.clock.advance(WINDOW + KEEP + 1)
    assert bench.sweep() == [entry("jobs failed by their window", 1), entry("jobs pruned", 1)]
    assert bench.states() == {}


def test_nothing_fails_and_nothing_is_deleted_while_the_clock_is_not_to_be_trusted(
    bench: Bench,
) -> None:
    bench.api.made(valid_for=1)
    bench.api.made("complete")
    bench.api.made("inprogress")
    bench.clock.set(bench.clock.now() + WINDOW + KEEP + 1, steady=False)
    (jumped,) = bench.sweep()
    assert "the clock jumped forward" in jumped["event"]
    assert bench.states() == {0: 1, 1: 1, 2: 1}
    assert bench.api.listed() == [], "what is over is out of sight all the same"
    bench.clock.set(bench.clock.now(), steady=True)
    bench.sweep()
    assert bench.states() == {}


def test_the_jobs_of_a_removed_queue_are_purged_with_it(bench: Bench) -> None:
    for _ in range(3):
        bench.api.made()
    kept = Api(bench.api.transport, "r").made()
    bench.restart("version: 1\nqueues:\n  r: {read: ['*'], write: ['*']}\n")
    assert bench.states() == {0: 4}, "the start does not wait for it"
    lost, gone = bench.sweep()
    assert (lost["queue"], lost["jobs"], lost["log_level"]) == ("q", 3, "warning")
    assert gone == entry("jobs of removed queues deleted", 3)
    assert bench.states() == {0: 1}
    assert Api(WsgiTransport(bench.service.app), "r").listed() == [kept]
    with bench.service._database.readers.connect() as connection:
        assert connection.execute(select(queue.c.name)).scalars().all() == ["r"]
    assert bench.sweep() == []


def test_a_queue_added_again_before_the_purge_is_empty_and_stays(bench: Bench) -> None:
    bench.api.made()
    bench.restart("version: 1\nqueues:\n  r: {read: [], write: []}\n")
    bench.restart(QUEUES)
    assert bench.api.listed() == []
    made = bench.api.made()
    bench.sweep()
    assert bench.api.listed() == [made]
    assert bench.states() == {0: 1}


def test_a_changed_window_applies_to_the_jobs_there_are(bench: Bench) -> None:
    made = bench.api.made("inprogress")
    bench.restart(QUEUES + "job_timeout_minutes: 1\n")
    bench.clock.advance(61)
    assert bench.api.get(made["uid"]).json()["state"] == "failed"
    assert bench.sweep() == [entry("jobs failed by their window", 1)]


def test_a_start_distrusts_a_clock_ahead_of_what_the_database_has_seen(bench: Bench) -> None:
    bench.api.made(valid_for=1)
    bench.api.made("complete")
    bench.api.made("inprogress")
    bench.clock.advance(WINDOW + KEEP + 2)
    bench.restart(QUEUES)
    (jumped,) = bench.sweep()
    assert "the clock jumped forward, or the server was stopped" in jumped["event"]
    assert bench.states() == {0: 1, 1: 1, 2: 1}
    assert bench.api.listed() == [], "what is over is out of sight all the same"
    bench.clock.advance(SETTLE_SECONDS - 1)
    assert bench.sweep() == []
    bench.clock.advance(1)
    assert len(bench.sweep()) == 4, "trusted, expired, failed, pruned"
    assert bench.states() == {}


@pytest.mark.parametrize(
    "act",
    [
        lambda api, _: api.made(),
        lambda api, uid: api.update(uid),
        lambda api, _: api.send("DELETE", "/api/v1/jobs/" + api.made()["uid"]),
    ],
    ids=["create", "update", "delete"],
)
def test_any_call_shows_the_next_start_what_time_it_was(
    bench: Bench, act: Callable[[Api, str], object]
) -> None:
    made = bench.api.made("inprogress")
    bench.clock.advance(WINDOW - 1)
    act(bench.api, made["uid"])
    bench.clock.advance(JUMP_SECONDS)
    bench.restart(QUEUES)
    bench.service._duties.run_once()
    assert bench.clock.steady()


class Broken:
    event = "broken"

    def chunk(self) -> tuple[Counter[str], bool]:
        raise ValueError("on purpose")


class Steady:
    event = "steady"

    def __init__(self) -> None:
        self.chunks = 3

    def chunk(self) -> tuple[Counter[str], bool]:
        self.chunks -= 1
        return Counter({"q": 1}), self.chunks > 0


class Clock:
    def __init__(self) -> None:
        self.is_steady = True

    def now(self) -> int:
        return 1

    def elapsed(self) -> float:
        return 1.0

    def steady(self) -> bool:
        return self.is_steady

    def start_from(self, seen: int) -> None:
        raise AssertionError(seen)


def test_a_jump_of_the_clock_is_logged_once_and_so_is_its_end() -> None:
    clock = Clock()
    runner = DutyRunner([], clock)
    with structlog.testing.capture_logs() as logged:
        for steady in (True, False, False, True, True):
            clock.is_steady = steady
            runner.run_once()
    assert [entry["event"].split(",")[0] for entry in logged] == [
        "the clock jumped forward",
        "the clock is trusted again",
    ]


def test_a_duty_that_fails_does_not_keep_the_others_from_theirs() -> None:
    steady = Steady()
    with structlog.testing.capture_logs() as logged:
        DutyRunner([Broken(), steady], Clock()).run_once()
    assert steady.chunks == 0
    failure, done = logged
    assert (failure["duty"], failure["log_level"]) == ("broken", "error")
    assert done == entry("steady", 3)


@pytest.mark.parametrize("sweep", ["expire", "prune", "fail"])
def test_a_sweep_leaves_a_job_that_another_server_is_changing(
    tmp_path: Path, databases: Databases, sweep: str
) -> None:
    """Whatever is committed meanwhile, the sweep must look at the job anew, or not at all."""
    bench = Bench(tmp_path, databases.env("postgresql"))
    state = {"expire": "queued", "prune": "complete", "fail": "inprogress"}[sweep]
    made = bench.api.made(state, valid_for=10)
    bench.clock.advance(KEEP + 2 if sweep == "prune" else WINDOW + 2)
    other = open_database(launch_in(tmp_path, **bench.database).database, SECRET.encode())
    with ThreadPoolExecutor(1) as pool, other.writer.connect() as connection:
        connection.begin()
        connection.exec_driver_sql(
            "UPDATE job SET state = 1, last_updated = last_updated + 100000,"
            " timeout_time = timeout_time + 100000"
        )
        sweeping = pool.submit(bench.sweep)
        with suppress(TimeoutError):
            sweeping.result(1)  # it may wait for the other's commit
        connection.commit()
        assert sweeping.result() == []
    assert bench.states() == {1: 1}, made
    other.close()
    bench.service.stop()


def test_a_start_on_a_clock_a_day_ahead_costs_no_job(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    clock, states = FileClock(tmp_path / "clock"), ("queued", "inprogress", "complete", "failed")
    with Server(tmp_path, QUEUES, clock_file=clock.path, **database) as server:
        made = {state: server.api().made(state)["uid"] for state in states}
        server.api("r").made()
    right = clock.now()
    clock.advance(86_400)
    without_r = QUEUES.partition("  r:")[0]
    with Server(tmp_path, without_r, clock_file=clock.path, **database) as server:
        server.wait_for("jobs of removed queues deleted")  # the last that a sweep does with jobs
        assert server.api().listed() == []
    clock.set(right)
    with Server(tmp_path, without_r, clock_file=clock.path, **database) as server:
        assert {job["state"]: job["uid"] for job in server.api().listed()} == made
