"""Statistics: what is counted, what it takes to lose it, and how it grows old."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from jobengine.domain.durations import BOUNDS, BUCKETS, bucket_of, quantile
from jobengine.domain.errors import InvalidInput, StoreFailed, UnknownQueue
from jobengine.domain.job import Changes, State
from jobengine.engine.duties.duty import CHUNK
from jobengine.engine.metrics import Depth, Flow, Point
from jobengine.store import move
from jobengine.store.migrate import upgrade
from jobengine.store.opening import open_database
from jobengine.store.tables import statistics
from jobengine.store.tables.models import statistic
from jobengine.store.tables.tally import Tally, Totals
from jobengine.store.writing.operations import Create, Delete, NewJob, Task, Update
from jobengine.wsgi import Service
from tests.conftest import KEEP, WINDOW, Databases, launch_in
from tests.harness.batches import submit_together
from tests.harness.client import Api, WsgiTransport
from tests.harness.clock import FileClock
from tests.harness.server import SECRET, Server

QUEUES = "version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n  r: {read: ['*'], write: ['*']}\n"
DAY = 86_400


class Bench:
    """A service on a clock of its own, whose duties run when a test says so."""

    def __init__(self, folder: Path, database: dict[str, str]) -> None:
        self.folder, self.database = folder, database
        self.clock = FileClock(folder / "clock")
        self.start()

    def start(self, config: str = QUEUES) -> None:
        (self.folder / "config.yml").write_text(config)
        self.service = Service(launch_in(self.folder, **self.database), self.clock)
        self.api = Api(WsgiTransport(self.service.app), "q")
        self.minute = self.clock.now() // 60 * 60

    def written(self) -> "Bench":
        """All that was counted is in the database."""
        self.clock.advance(2)
        self.service._writer.submit(Task(lambda _: None))
        return self

    def series(self, minutes: int = 1, queue: str = "q", step: int = 60) -> Sequence[Point]:
        """From the minute of the start on."""
        self.written()
        end = self.minute + minutes * 60
        return self.service.metrics.series(queue, self.minute, end, step)

    def rows(self) -> dict[int, int]:
        """How many rows there are of each step."""
        counted = select(statistic.c.step, func.count()).group_by(statistic.c.step)
        with self.service._database.readers.connect() as connection:
            return dict(iter(connection.execute(counted)))

    def next_minute(self) -> None:
        """Goes to the first second of it."""
        self.clock.set(self.clock.now() // 60 * 60 + 60)


@pytest.fixture
def bench(tmp_path: Path, database: dict[str, str]) -> Iterator[Bench]:
    made = Bench(tmp_path, database)
    yield made
    made.service.stop()


def counts(point: Point) -> dict[str, int]:
    """Those that are not 0."""
    names = ("created", "claimed", "completed", "failed", "expired", "deleted")
    return {name: getattr(point, name) for name in names if getattr(point, name)}


def test_a_life_is_counted_in_its_minutes(bench: Bench) -> None:
    for _ in range(3):
        bench.api.create()
    bench.next_minute()
    uid = bench.api.next().json()["uid"]
    bench.api.next()
    bench.next_minute()
    bench.api.update(uid, status="complete")
    bench.next_minute()
    bench.api.delete(uid)
    made, claimed, completed, deleted = bench.series(4)
    assert [counts(each) for each in (made, claimed, completed, deleted)] == [
        {"created": 3},
        {"claimed": 2},
        {"completed": 1},
        {"deleted": 1},
    ]
    assert [each.depth for each in (made, claimed, completed, deleted)] == [
        Depth(queued=3),
        Depth(queued=1, inprogress=2),
        Depth(queued=1, inprogress=1, complete=1),
        Depth(queued=1, inprogress=1),
    ]


def test_the_sweeps_are_counted(bench: Bench) -> None:
    bench.api.made(valid_for=WINDOW + KEEP)
    bench.api.made("complete")
    bench.api.made("inprogress")
    bench.service._duties.run_once()
    bench.clock.advance(WINDOW + 1)
    bench.service._duties.run_once()
    bench.clock.advance(KEEP)
    bench.service._duties.run_once()
    points = bench.series(80)
    total = sum((Counter(counts(point)) for point in points), Counter[str]())
    claimed_by_an_update = 1
    assert total == {
        "created": 3,
        "completed": 1,
        "claimed": claimed_by_an_update,
        "failed": 1,
        "expired": 1,
        "deleted": 2,
    }
    assert points[-1].depth == Depth()


def test_a_purge_is_counted_as_deleted(tmp_path: Path, database: dict[str, Any]) -> None:
    with Server(tmp_path, QUEUES + "admins: [both]\n", **database) as server:
        for _ in range(3):
            server.api().create()
        answer = server.api().send("POST", "/api/v1/queues/q/purge", headers={"X-Queue": "q"})
        assert answer.json() == {"deleted": 3}
    bench = Bench(tmp_path, database)
    (row,) = written_rows(bench)
    assert (row["created"], row["deleted"], row["depth_queued"]) == (3, 3, 0)
    bench.service.stop()


def written_rows(bench: Bench) -> list[dict[str, int]]:
    """The rows, added up by queue: a minute may have turned."""
    columns = [func.sum(column).label(column.name) for column in statistic.c[3:-4]]
    last = [func.min(column).label(column.name) for column in statistic.c[-4:]]
    chosen = select(*columns, *last).group_by(statistic.c.queue_id)
    with bench.service._database.readers.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(chosen)]


def test_waiting_and_running_times_are_told_in_seconds(bench: Bench) -> None:
    for _ in range(4):
        bench.api.create()
    bench.clock.advance(7)
    uids = [bench.api.next().json()["uid"] for _ in range(4)]
    bench.clock.advance(3)
    bench.api.update(uids[0])  # a heartbeat
    bench.clock.advance(20)
    for uid, state in zip(uids, ("complete", "failed", "complete", "queued"), strict=True):
        bench.api.update(uid, status=state)
    (point,) = bench.series()
    assert (point.wait_p50, point.wait_p95) == (7.5, 9.75)  # of 5 to 10
    assert (point.run_p50, point.run_p95) == pytest.approx((20, 29))  # of 10 to 30


def test_a_job_that_is_queued_again_waits_from_then_on(bench: Bench) -> None:
    uid = bench.api.made("inprogress", valid_for=6000)["uid"]
    bench.clock.advance(500)
    bench.api.update(uid, status="queued")
    bench.next_minute()
    bench.minute = bench.clock.now()
    bench.api.next()
    (point,) = bench.series()
    assert point.wait_p95 is not None
    assert 30 < point.wait_p95 <= 60


def test_a_job_that_its_window_failed_ran_until_the_windows_end(bench: Bench) -> None:
    bench.api.made("inprogress")
    bench.clock.advance(1000)
    bench.service._duties.run_once()
    points = bench.series(20)
    (failed,) = [point for point in points if point.failed]
    assert failed.run_p95 is not None
    assert 300 < failed.run_p95 <= WINDOW


def test_each_state_that_a_job_goes_through_counts_also_in_one_commit(bench: Bench) -> None:
    uid = bench.api.made()["uid"]
    states = ["inprogress", "complete", "queued", "inprogress", "failed"]
    bench.api.send("POST", "/api/v1/jobs", [{"uid": uid, "status": state} for state in states])
    (point,) = bench.series()
    assert counts(point) == {"created": 1, "claimed": 2, "completed": 1, "failed": 1}
    assert point.depth == Depth(failed=1)


def test_a_job_that_is_done_and_deleted_in_one_commit_counts_as_both(bench: Bench) -> None:
    queue, uid = bench.service.queues.get("q"), UUID(bench.api.made("inprogress")["uid"]).bytes
    done = Update(queue, uid, Changes(status=State.COMPLETE))
    bench.service._writer.submit_all([done, Delete(queue, uid)])
    (point,) = bench.series()
    assert counts(point) == {"created": 1, "claimed": 1, "completed": 1, "deleted": 1}
    assert point.depth == Depth()


@pytest.mark.parametrize("change", ["retry", "delete"])
def test_a_window_that_was_over_counts_when_an_update_finds_it(bench: Bench, change: str) -> None:
    uid = bench.api.made("inprogress")["uid"]
    bench.clock.advance(601)
    if change == "retry":
        bench.api.update(uid, status="queued")
    else:
        bench.api.delete(uid)
    point = bench.series(12)[-2]
    assert point.failed == 1
    assert point.run_p50 == quantile_of(600)
    assert point.deleted == (change == "delete")


def quantile_of(seconds: int) -> float | None:
    """What the median of one running time is told as."""
    one = [0] * BUCKETS
    one[bucket_of(seconds)] = 1
    return quantile(one, 0.5)


def test_gaps_are_filled_and_the_depth_is_carried_on(bench: Bench) -> None:
    bench.api.create()
    before = bench.minute - 120
    bench.written()
    points = bench.service.metrics.series("q", before + 7, bench.minute + 240, 60)
    assert [point.time for point in points] == [before + 60 * n for n in range(6)]
    assert [point.depth.queued for point in points] == [0, 0, 1, 1, 1, 1]
    assert [point.created for point in points] == [0, 0, 1, 0, 0, 0]
    assert points[-1].wait_p50 is points[-1].run_p95 is None
    later = bench.service.metrics.series("q", bench.minute + DAY, bench.minute + DAY + 60, 60)
    assert [point.depth.queued for point in later] == [1]


def test_steps_join_minutes(bench: Bench) -> None:
    for _ in range(5):
        bench.api.create()
        bench.next_minute()
    hour = bench.minute // 3600 * 3600
    bench.written()
    points = bench.service.metrics.series("q", hour, hour + 7200, 3600)
    assert sum(point.created for point in points) == 5
    assert points[-1].depth.queued == 5


def test_a_series_that_cannot_be_is_refused(bench: Bench) -> None:
    series = bench.service.metrics.series
    with pytest.raises(UnknownQueue):
        series("nowhere", 0, 60, 60)
    for step in (0, -60, 59, 90):
        with pytest.raises(InvalidInput):
            series("q", 0, 600, step)
    with pytest.raises(InvalidInput):
        series("q", 0, 60 * 10_001, 60)
    assert len(series("q", 0, 60 * 10_000, 60)) == 10_000
    assert series("q", 60, 60, 60) == []


def test_flows_are_those_of_the_last_minutes_of_every_queue(bench: Bench) -> None:
    bench.api.create()
    bench.next_minute()
    bench.api.made("complete")
    bench.written()
    flows = bench.service.metrics.flows(3)
    assert flows == {
        "q": [
            Flow(bench.minute - 60),
            Flow(bench.minute, created=1),
            Flow(bench.minute + 60, created=1, completed=1),
        ],
        "r": [Flow(bench.minute + 60 * n) for n in (-1, 0, 1)],
    }
    assert bench.service.metrics.flows(0) == {"q": [], "r": []}


def test_statistics_survive_a_restart(bench: Bench) -> None:
    began = bench.minute
    for _ in range(3):  # the first is written at once, the others are still to be
        bench.api.create()
    bench.service.stop()
    bench.start()
    (point,) = bench.service.metrics.series("q", began, began + 60, 60)
    assert (point.created, point.depth.queued) == (3, 3)


def test_what_no_batch_writes_is_written_within_seconds(
    tmp_path: Path, database: dict[str, str]
) -> None:
    """On the machine's clock: there are no other calls, and no duties."""
    (tmp_path / "config.yml").write_text(QUEUES)
    service = Service(launch_in(tmp_path, **database))
    api = Api(WsgiTransport(service.app), "q")
    for _ in range(5):
        api.create()
    while sum(flow.created for flow in service.metrics.flows(10)["q"]) < 5:
        pass
    service.stop()


def test_a_batch_that_is_undone_is_not_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.api.create()
    with monkeypatch.context() as patch:
        patch.setattr(statistics, "write", undone)
        patch.setattr(bench.service._database, "announce_jobs", undone)
        for _ in range(3):
            bench.clock.advance(2)
            assert bench.api.create().status == 503
    for _ in range(2):
        bench.api.create()
    (point,) = bench.series()
    assert (point.created, point.depth.queued) == (3, 3)
    assert bench.service.metrics.done()["q"].created == 3


def undone(*_: Any) -> None:
    raise OSError("on purpose")


def test_statistics_that_cannot_be_written_cost_no_job_and_are_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(statistics, "write", undone)
        for _ in range(3):
            bench.clock.advance(2)
            assert bench.api.create().status == 201
    (point,) = bench.series()
    assert (point.created, point.depth.queued) == (3, 3)


def test_a_batch_that_is_run_again_for_long_is_run_without_its_statistics(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: Any) -> None:
        bench.clock.advance(2)  # longer than from one write of statistics to the next
        undone()

    bench.clock.advance(2)
    with monkeypatch.context() as patch:
        patch.setattr(statistics, "write", slow)
        assert bench.api.create().status == 201
    (point,) = bench.series()
    assert (point.created, point.depth.queued) == (1, 1)


def test_a_queue_in_which_nothing_happened_for_a_month_has_the_depth_that_it_has(
    bench: Bench,
) -> None:
    for _ in range(3):
        bench.api.create(valid_for=10_000_000)
    bench.api.next()
    bench.written()
    with bench.service._database.writer.begin() as connection:
        connection.execute(delete(statistic))
    points = bench.service.metrics.series("q", bench.minute, bench.minute + 180, 60)
    assert [point.depth for point in points] == [Depth(queued=2, inprogress=1)] * 3


def test_a_claim_that_finds_nothing_leaves_nothing_to_write(bench: Bench) -> None:
    for _ in range(3):
        assert bench.api.next().status == 204
    assert bench.service._writer._statistics.due_at() is None


def test_only_the_good_operations_of_a_batch_are_counted(bench: Bench) -> None:
    queue, now = bench.service.queues.get("q"), bench.clock.now()
    new = [NewJob(bytes([n]) * 16, 1, now, now + 60, 60, b"{}") for n in range(3)]
    twice = Create(queue, [new[1], new[1]])
    good: list[Any] = [Create(queue, [new[0]]), Create(queue, [new[2]])]
    good.append(Update(queue, new[0].uid, Changes(status=State.COMPLETE)))
    submit_together(bench.service._writer, *([one] for one in (good[0], twice, *good[1:])))
    with pytest.raises(StoreFailed):
        twice.outcome()
    (point,) = bench.series()
    assert counts(point) == {"created": 2, "completed": 1}
    assert point.depth == Depth(queued=1, complete=1)


def test_a_kill_loses_a_second_of_statistics_at_most(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    clock = FileClock(tmp_path / "clock")
    minute = clock.now() // 60 * 60
    server = Server(tmp_path, QUEUES, clock_file=clock.path, **database).start()
    api = server.api()
    for _ in range(3):
        api.create()
    clock.advance(1)
    api.create()  # with all before it, or after them where nobody's batch was first
    for _ in range(2):
        api.create()
    server.kill()
    (tmp_path / "config.yml").write_text(QUEUES)
    service = Service(launch_in(tmp_path, **database), clock)
    assert len(Api(WsgiTransport(service.app), "q").listed()) == 6
    (point,) = service.metrics.series("q", minute, minute + 60, 60)
    assert point.created == point.depth.queued
    assert point.created in (3, 4)
    service.stop()


def test_two_servers_add_to_the_same_rows(tmp_path: Path, databases: Databases) -> None:
    env = databases.env("postgresql")
    clock = FileClock(tmp_path / "clock")
    (tmp_path / "config.yml").write_text(QUEUES)
    services = [Service(launch_in(tmp_path, **env), clock) for _ in range(2)]
    for service in services * 2:
        api = Api(WsgiTransport(service.app), "q")
        api.create()
        api.next()
    for service in services:
        service.stop()
    bench = Bench(tmp_path, env)
    (row,) = written_rows(bench)
    assert (row["created"], row["claimed"], row["wait_0"], row["depth_inprogress"]) == (4,) * 4
    bench.service.stop()


def test_minutes_become_hours_after_two_days_and_go_after_thirty(bench: Bench) -> None:
    for _ in range(3):
        bench.api.create(valid_for=100 * DAY)
        bench.next_minute()
    hour = bench.minute // 3600 * 3600
    bench.series()
    before = bench.service.metrics.series("q", hour, hour + 3600, 3600)
    assert before[0].created == 3, "all in one hour"
    for age, rows in (
        (2 * DAY + 3599 - (bench.clock.now() - hour), {60: 3}),
        (1, {3600: 1}),
        (28 * DAY - 1, {3600: 1}),
        (1 + 3600, {}),
    ):
        bench.clock.advance(age)
        bench.service._duties.run_once()
        assert rows.items() <= bench.rows().items()
        if rows:
            assert bench.service.metrics.series("q", hour, hour + 3600, 3600) == before
    assert bench.service.metrics.series("q", hour, hour + 3600, 3600)[0].created == 0


def test_nothing_is_thinned_while_the_clock_is_not_to_be_trusted(bench: Bench) -> None:
    bench.api.create()
    bench.written()
    bench.clock.set(bench.clock.now() + 40 * DAY, steady=False)
    bench.service._duties.run_once()
    assert bench.rows() == {60: 1}


def test_a_backlog_is_thinned_in_chunks(bench: Bench) -> None:
    old = bench.minute - 10 * DAY
    by_minute = {old + 60 * n: Totals() for n in range(CHUNK + 100)}
    queue_id = bench.service.queues.get("q").id
    for totals in by_minute.values():
        tally = Tally()
        tally.moves[queue_id, None, 0] += 1
        totals.add(tally)
    write = Task[None](lambda connection: statistics.write(connection, by_minute))
    bench.service._writer.submit(write)
    thinned = Task[int](lambda connection: statistics.thin(connection, bench.minute, CHUNK))
    assert bench.service._writer.submit(thinned) == CHUNK
    assert bench.rows()[60] == 100
    bench.service._duties.run_once()
    assert bench.rows().keys() == {3600}
    points = bench.service.metrics.series("q", old - DAY, bench.minute, DAY)
    assert sum(point.created for point in points) == CHUNK + 100
    assert points[-1].depth.queued == 0, "none is queued now"


def test_a_removed_queue_takes_its_statistics_along(bench: Bench) -> None:
    Api(bench.api.transport, "r").create()
    bench.api.create()
    bench.written()
    bench.service.stop()
    bench.start("version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n")
    bench.service._duties.run_once()
    bench.written()
    (row,) = written_rows(bench)
    assert (row["created"], row["deleted"]) == (1, 0)


def test_a_move_takes_statistics_along(
    tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(move, "_CHUNK_JOBS", 2)
    bench = Bench(tmp_path, {})
    for name in "qrqrq":
        Api(bench.api.transport, name).create()
        bench.next_minute()
    bench.service.stop()
    env = databases.env("postgresql")
    source, target = (
        open_database(launch_in(tmp_path, **each).database, SECRET.encode()) for each in ({}, env)
    )
    upgrade(source)
    upgrade(target)
    list(move.Move(source, target).copy())
    list(move.Move(source, target).copy())  # a second time, nothing is doubled
    in_order = select(statistic).order_by(statistic.c.queue_id, statistic.c.time)
    found = []
    for database in (source, target):
        with database.readers.connect() as connection:
            found.append([tuple(row) for row in connection.execute(in_order)])
        database.close()
    assert found[0] == found[1]
    assert len(found[0]) == 5


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["create", "next", "complete", "failed", "queued", "delete"]),
        st.integers(0, 3),
        st.integers(0, 90),
    ),
    max_size=25,
)


@pytest.fixture(scope="module")
def long_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("long"), {})
    yield made
    made.service.stop()


class Model:
    """Does calls, and counts beside by minute what each changed."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.states: dict[str, str] = {}
        self.counts: dict[int, Counter[str]] = {}

    def call(self, what: str, which: int) -> None:
        uids = sorted(self.states)
        if what == "create":
            job = self.bench.api.create(valid_for=100_000).json()
            self._note("created", job["uid"], "queued")
        elif what == "next":
            answer = self.bench.api.next()
            if answer.status == 200:
                self._note("claimed", answer.json()["uid"], "inprogress")
        elif uids:
            self._touch(uids[which % len(uids)], what)

    def _touch(self, uid: str, what: str) -> None:
        if what == "delete":
            self.bench.api.delete(uid)
            self._note("deleted", uid, None)
        else:
            after = self.bench.api.update(uid, status=what).json()["state"]
            if after != self.states[uid]:
                counted = {"complete": "completed", "failed": "failed"}.get(after)
                self._note(counted, uid, after)

    def _note(self, counted: str | None, uid: str, state: str | None) -> None:
        self.states.pop(uid, None)
        if state is not None:
            self.states[uid] = state
        if counted is not None:
            minute = self.bench.clock.now() // 60 * 60
            self.counts.setdefault(minute, Counter())[counted] += 1


@settings(deadline=None, max_examples=50)
@given(operations=OPERATIONS)
def test_the_series_is_what_was_done(
    long_bench: Bench, operations: list[tuple[str, int, int]]
) -> None:
    bench, model = long_bench, Model(long_bench)
    bench.next_minute()
    start = bench.clock.now()
    for what, which, later in operations:
        bench.clock.advance(later)
        model.call(what, which)
    bench.written()
    points = bench.service.metrics.series("q", start, bench.clock.now() + 60, 60)
    assert {point.time: counts(point) for point in points if counts(point)} == model.counts
    depth = msgspec.structs.asdict(points[-1].depth)
    assert {state: n for state, n in depth.items() if n} == Counter(model.states.values())
    for uid in model.states:
        bench.api.delete(uid)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0, 0), (1, 0), (2, 1), (3, 2), (86_400, BUCKETS - 2), (86_401, BUCKETS - 1)],
)
def test_a_bound_is_within_its_bucket(seconds: int, bucket: int) -> None:
    assert bucket_of(seconds) == bucket


@given(st.lists(st.integers(0, 200_000), min_size=1), st.sampled_from([0.5, 0.95, 1.0]))
def test_a_quantile_lies_in_the_bucket_that_holds_it(seconds: list[int], share: float) -> None:
    filled = [0] * BUCKETS
    for each in seconds:
        filled[bucket_of(each)] += 1
    exact = sorted(seconds)[max(0, -int(-share * len(seconds) // 1) - 1)]
    found = quantile(filled, share)
    assert found is not None
    index = min(bucket_of(exact), len(BOUNDS) - 1)
    lower = BOUNDS[index - 1] if index else 0
    assert lower <= found <= BOUNDS[index]
