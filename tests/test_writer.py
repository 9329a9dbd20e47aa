"""The writer: batches, what fails alone, and what fails together."""

import dataclasses
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import SQLAlchemyError

from jobengine.domain.errors import OutcomeUnknown, Stopping, StoreFailed, Unavailable, UnknownJob
from jobengine.domain.job import Changes, State
from jobengine.domain.queue import Queue
from jobengine.store.database import Database
from jobengine.store.migrate import upgrade
from jobengine.store.opening import open_database
from jobengine.store.reads import Reads
from jobengine.store.tables import depths
from jobengine.store.tables.queues import Times, WantedQueue, reconcile
from jobengine.store.writing import batch, commits, writer
from jobengine.store.writing.batch import Batch
from jobengine.store.writing.operations import (
    Claim,
    Create,
    Delete,
    NewJob,
    Operation,
    Task,
    Update,
)
from jobengine.store.writing.submissions import Submission
from jobengine.store.writing.writer import Writer
from jobengine.wsgi import Service
from tests.conftest import launch_in
from tests.harness.batches import submit_together
from tests.harness.client import Api, WsgiTransport
from tests.harness.clock import FileClock

NOW = 1_800_000_000


class Store:
    """A database with two queues, a writer that is not started, and a job maker."""

    def __init__(self, folder: Path, database: dict[str, str]) -> None:
        self.file = open_database(launch_in(folder, **database).database, b"secret")
        upgrade(self.file)
        self.clock = FileClock(folder / "clock")
        self.clock.set(NOW)
        self.writer = Writer(self.file, self.clock)
        self.reads = Reads(self.file)
        self._count = 0
        wanted = [WantedQueue(name, frozenset(), frozenset(), 600, 3600) for name in "qr"]
        with self.file.writer.begin() as connection:
            self.queue, self.other = reconcile(connection, wanted, Times(600, 3600), NOW).queues

    def new(self, **values: Any) -> NewJob:
        self._count += 1
        fields: dict[str, Any] = {
            "uid": self._count.to_bytes(16),
            "priority": 50,
            "created": NOW,
            "timeout_time": NOW + 600,
            "valid_for": 600,
            "content": b"{}",
        }
        return NewJob(**(fields | values))

    def run(self, *operations: Operation[Any]) -> None:
        """Runs the operations as one batch."""
        with self.file.writer.begin() as connection:
            Batch(connection, self.file.contents, NOW).run(operations)

    def create(self, queue: Queue | None = None, **values: Any) -> bytes:
        """Creates a job; its uid."""
        new = self.new(**values)
        self.run(Create(queue or self.queue, [new]))
        return new.uid

    def create_by_writer(self) -> bytes:
        """Creates a job through the writer's thread; its uid."""
        new = self.new()
        self.writer.submit(Create(self.queue, [new]))
        return new.uid

    def get(self, uid: bytes) -> Any:
        return self.reads.get(self.queue, uid, NOW)


@pytest.fixture
def service(tmp_path: Path, database: dict[str, str]) -> Iterator[Service]:
    """A service with a queue, in this process."""
    config = "version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n"
    (tmp_path / "config.yml").write_text(config)
    made = Service(launch_in(tmp_path, **database), FileClock(tmp_path / "clock"))
    yield made
    made.stop()


@pytest.fixture
def store(tmp_path: Path, database: dict[str, str]) -> Iterator[Store]:
    made = Store(tmp_path, database)
    yield made
    made.file.close()


def test_operations_on_one_uid_apply_in_the_order_of_arrival(store: Store) -> None:
    uid = store.create()
    operations: list[Update | Delete] = [
        Update(store.queue, uid, Changes(priority=1)),
        Update(store.queue, uid, Changes(status=State.FAILED)),
        Update(store.queue, uid, Changes(priority=2, content=b'{"new":1}')),
        Delete(store.queue, uid),
        Update(store.queue, uid, Changes(priority=3)),
        Delete(store.queue, uid),
    ]
    store.run(*operations)
    seen = [operation.outcome() for operation in operations[:3]]
    assert [(job.priority, job.state) for job in seen if job is not None] == [
        (1, State.QUEUED),
        (1, State.FAILED),
        (2, State.FAILED),
    ]
    operations[3].outcome()
    for late in operations[4:]:
        with pytest.raises(UnknownJob):
            late.outcome()
    assert store.get(uid) is None


def test_a_queue_that_nothing_was_noted_of_is_counted(store: Store) -> None:
    store.create(store.other)
    for bounded in (store.queue, dataclasses.replace(store.queue, max_jobs=3)):
        with store.file.writer.begin() as connection:
            depths.drop_queue(connection, store.queue.id)
        store.run(Create(bounded, [store.new()]))
    store.run(Claim(store.queue))
    with store.file.writer.connect() as connection:
        noted = depths.depths(connection)
    assert noted[store.queue.id][State.QUEUED] == 1
    assert noted[store.queue.id][State.INPROGRESS] == 1
    assert noted[store.other.id][State.QUEUED] == 1


def test_claims_see_what_was_created_and_updated_before_them_in_the_batch(store: Store) -> None:
    old = store.create(priority=1)
    new = store.new(priority=10)
    update, claim = Update(store.queue, old, Changes(priority=20)), Claim(store.queue, 5)
    store.run(claim, Create(store.queue, [new]), update)
    assert [job.priority for job in claim.outcome()] == [20, 10]


def test_claims_of_a_batch_are_dealt_in_the_order_of_arrival(store: Store) -> None:
    for priority in (3, 9, 5):
        store.create(priority=priority)
    store.create(store.other, priority=7)
    claims = [Claim(store.queue), Claim(store.other), Claim(store.queue, 2), Claim(store.queue)]
    store.run(*claims)
    assert [[job.priority for job in claim.outcome()] for claim in claims] == [[9], [7], [5, 3], []]


def test_a_refused_operation_fails_alone(store: Store) -> None:
    uid = store.create()
    good = Update(store.queue, uid, Changes(priority=1))
    stale = Update(store.queue, b"x" * 16, Changes(priority=1))
    elsewhere = Update(store.other, uid, Changes(priority=99))
    store.run(stale, good, elsewhere)
    assert good.outcome().priority == 1
    for refused in (stale, elsewhere):
        with pytest.raises(UnknownJob):
            refused.outcome()
    assert store.get(uid).priority == 1


def test_the_guilty_operations_of_a_batch_are_found_and_the_others_go_on(store: Store) -> None:
    store.writer.start()
    taken = store.create_by_writer()

    def fail(connection: Connection) -> None:
        connection.exec_driver_sql("DELETE FROM job")
        raise ValueError("on purpose")

    good = [Create(store.queue, [store.new()]) for _ in range(3)]
    with_twice = Create(store.queue, [store.new()])
    twice = Create(store.queue, [store.new(), store.new(uid=taken)])
    orphan = Create(Queue(999, "gone", frozenset(), frozenset(), 1, 1), [store.new()])
    task, update = Task(fail), Update(store.queue, taken, Changes(priority=1))
    submit_together(
        store.writer,
        *([good[0]], [with_twice, twice], [task], [good[1]], [orphan], [update], [good[2]]),
    )
    for operation in good:
        operation.outcome()
        assert store.get(operation.jobs[0].uid) is not None
    for refused in (with_twice, twice, orphan, task):
        with pytest.raises(StoreFailed):
            refused.outcome()
    for undone in (with_twice, twice):
        assert store.get(undone.jobs[0].uid) is None, "all or none of a submission"
    assert update.outcome().priority == 1
    store.writer.stop()


def test_a_batch_may_hold_more_jobs_than_a_statement_takes_parameters(store: Store) -> None:
    jobs = [store.new() for _ in range(1300)]
    claim = Claim(store.queue, 1300)
    store.run(Create(store.queue, jobs), claim)
    assert len(claim.outcome()) == 1300
    updates = [Update(store.queue, new.uid, Changes(status=State.COMPLETE)) for new in jobs]
    store.run(*updates)
    assert {update.outcome().state for update in updates} == {State.COMPLETE}
    deletes = [Delete(store.queue, new.uid) for new in jobs]
    store.run(*deletes)
    assert store.get(jobs[-1].uid) is None


def test_callers_are_let_go_though_the_connection_cannot_be_renewed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise SQLAlchemyError("on purpose")

    store.writer.start()
    with monkeypatch.context() as patch:
        patch.setattr(store.file.writer, "connect", broken)
        patch.setattr(store.file.writer, "dispose", broken)
        for _ in range(2):
            with pytest.raises(StoreFailed):
                store.writer.submit(Create(store.queue, [store.new()]))
    store.create_by_writer()
    store.writer.stop()


def test_a_hundred_threads_get_their_own_outcomes(store: Store) -> None:
    store.writer.start()
    got: dict[int, Any] = {}

    def work(number: int) -> None:
        new = store.new(uid=(1000 + number).to_bytes(16), priority=1 + number % 100)
        store.writer.submit(Create(store.queue, [new]))
        got[number] = store.writer.submit(
            Update(store.queue, new.uid, Changes(content=b"%d" % number))
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.writer.stop()
    assert {number: bytes(job.content) for number, job in got.items()} == {
        number: b"%d" % number for number in range(100)
    }


def test_a_failed_commit_is_told_to_every_caller_and_the_writer_goes_on(store: Store) -> None:
    store.writer.start()
    broken = threading.Event()
    broken.set()

    def fail(_connection: Connection) -> None:
        if broken.is_set():
            raise OSError("the disk is gone")

    event.listen(store.file.writer, "commit", fail)
    jobs = [store.new() for _ in range(3)]
    errors: list[Exception] = []

    def create(new: NewJob) -> None:
        try:
            store.writer.submit(Create(store.queue, [new]))
        except StoreFailed as error:
            errors.append(error)

    threads = [threading.Thread(target=create, args=(new,)) for new in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 3
    with pytest.raises(StoreFailed):
        store.writer.check()
    assert [store.get(new.uid) for new in jobs] == [None, None, None]
    broken.clear()
    create(jobs[0])
    assert store.get(jobs[0].uid) is not None
    store.writer.check()
    store.writer.stop()


def test_after_the_stop_nothing_is_taken(store: Store) -> None:
    store.writer.start()
    store.writer.check()
    store.writer.stop()
    with pytest.raises(Stopping):
        store.writer.check()
    with pytest.raises(Stopping):
        store.writer.submit(Create(store.queue, [store.new()]))


def test_a_clock_that_steps_back_does_not_take_last_updated_back(store: Store) -> None:
    uid = store.create(created=NOW + 50)
    claim = Claim(store.queue)
    store.run(claim)
    assert claim.outcome()[0].last_updated == NOW + 51
    update = Update(store.queue, uid, Changes(status=State.COMPLETE))
    store.run(update)
    assert update.outcome().last_updated == NOW + 51


def test_first_in_first_out_holds_across_a_clock_that_was_set_back(store: Store) -> None:
    first, second = store.create(created=NOW + 50), store.create(created=NOW)
    claim = Claim(store.queue, 2)
    store.run(claim)
    assert [job.uid[-1] for job in claim.outcome()] == [str(first[-1]), str(second[-1])]


def test_a_batch_costs_a_bounded_number_of_statements(tmp_path: Path) -> None:
    store = Store(tmp_path, {})  # the same statements go to PostgreSQL
    uids = [store.create() for _ in range(200)]
    statements: list[str] = []
    raw = store.file.writer.raw_connection()
    assert raw.driver_connection is not None
    raw.driver_connection.set_trace_callback(statements.append)
    updates = [Update(store.queue, uid, Changes(priority=1)) for uid in uids[:100]]
    deletes = [Delete(store.queue, uid) for uid in uids[100:150]]
    claims = [Claim(store.queue) for _ in range(100)]
    store.run(*updates, *deletes, *claims, Create(store.queue, [store.new()]))
    raw.driver_connection.set_trace_callback(None)
    kinds = Counter(statement.split()[0] for statement in statements)
    assert kinds.pop("UPDATE") == 103, "claims one, updates one for each job and one, depths one"
    assert kinds == {"BEGIN": 1, "INSERT": 1, "SELECT": 2, "DELETE": 1, "COMMIT": 1}


class Unheard(Operation[None]):
    """What no part of a batch knows of."""


class Broken:
    """A log that cannot be written."""

    def __getattr__(self, level: str) -> Any:
        raise OSError(f"no {level} can be written")


@pytest.fixture
def no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (writer, commits, batch):
        monkeypatch.setattr(module, "_log", Broken())


def test_what_nobody_settled_is_no_success(store: Store) -> None:
    for operation in (Create(store.queue, []), Claim(store.queue), Task(bool), Unheard()):
        with pytest.raises(OutcomeUnknown):
            operation.outcome()
    store.writer.start()
    with pytest.raises(OutcomeUnknown):
        store.writer.submit(Unheard())
    store.create_by_writer()
    store.writer.stop()


@pytest.mark.usefixtures("no_log")
def test_a_commit_that_failed_is_no_success_where_that_cannot_be_logged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_connection: Connection) -> None:
        raise OSError("the disk is full")

    store.writer.start()
    new = store.new()
    event.listen(store.file.writer, "commit", fail)
    for _ in range(3):
        with pytest.raises(StoreFailed):
            store.writer.submit(Create(store.queue, [new]))
    event.remove(store.file.writer, "commit", fail)
    assert store.get(new.uid) is None
    store.writer.submit(Create(store.queue, [new]))
    store.writer.check()
    assert store.get(new.uid) is not None
    store.writer.stop()


@pytest.mark.usefixtures("no_log")
def test_a_statement_that_failed_is_no_success_where_that_cannot_be_logged(store: Store) -> None:
    store.writer.start()
    taken = store.create_by_writer()
    twice, good = (Create(store.queue, [store.new(**v)]) for v in ({"uid": taken}, {}))
    submit_together(store.writer, [twice], [good])
    for operation in (twice, good):
        with pytest.raises(Unavailable):
            operation.outcome()
    assert store.get(good.jobs[0].uid) is None
    store.create_by_writer()
    store.writer.stop()


@pytest.mark.parametrize(
    ("part", "method"),
    [
        ("_commits", "commit"),
        ("_commits", "report"),
        ("_backlog", "take"),
        ("_parked", "look"),
        ("_statistics", "committed"),
    ],
)
def test_whatever_the_writer_meets_its_callers_are_answered_and_it_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, part: str, method: str
) -> None:
    here = getattr(store.writer, part)
    sound, met = getattr(here, method), threading.Event()

    def fail_once(*arguments: Any, **named: Any) -> Any:
        if met.is_set():
            return sound(*arguments, **named)
        met.set()
        raise RuntimeError("on purpose")

    monkeypatch.setattr(here, method, fail_once)
    creates = [Create(store.queue, [store.new()]) for _ in range(3)]
    submissions = [Submission([create]) for create in creates]
    for submission in submissions:
        store.writer._arrived.put(submission)  # before the start: they are one batch
    store.writer.start()
    for submission in submissions:
        submission.latch.wait()
    for create in creates:
        with suppress(OutcomeUnknown):
            create.outcome()
            assert store.get(create.jobs[0].uid) is not None
    store.create_by_writer()
    assert met.is_set()
    store.writer.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_callers_of_a_writer_that_ended_are_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise SystemExit

    store.writer.start()
    store.create_by_writer()
    monkeypatch.setattr(store.writer._commits, "commit", end)
    with pytest.raises(OutcomeUnknown):
        store.writer.submit(Create(store.queue, [store.new()]))
    for _ in range(2):
        with pytest.raises(StoreFailed, match="has ended"):
            store.writer.submit(Create(store.queue, [store.new()]))
    with pytest.raises(StoreFailed, match="has ended"):
        store.writer.check()
    store.writer.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_whose_writer_ended_is_not_ready(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise SystemExit

    api = Api(WsgiTransport(service.app), "q")
    assert api.transport.send("GET", "/readyz", {}, None).status == 200
    monkeypatch.setattr(service._writer._commits, "commit", end)
    for kind in ("outcome-unknown", "store-failed", "store-failed"):
        answer = api.send(
            "PUT", "/api/v1/jobs/create", {"content": {}, "valid_for": 9, "priority": 1}
        )
        assert (answer.status, answer.json()["type"].rsplit(":", 1)[1]) == (503, kind)
    assert api.transport.send("GET", "/readyz", {}, None).status == 503


@pytest.mark.parametrize("many", [False, True])
def test_a_claim_that_fails_undoes_the_update_that_it_was_sent_with(
    service: Service, many: bool
) -> None:
    api = Api(WsgiTransport(service.app), "q")
    uids = [api.made("inprogress")["uid"] for _ in range(2)]
    api.create()
    refuse_claims(service._database)
    if many:
        updates = [{"uid": uid, "status": "complete"} for uid in uids]
        answer = api.send("POST", "/api/v1/jobs?next=1", updates)
    else:
        answer = api.send("POST", f"/api/v1/jobs/{uids[0]}?next=1", {"status": "complete"})
    assert answer.status == 503
    assert {job["state"] for job in api.listed() if job["uid"] in uids} == {"inprogress"}


def test_claims_that_wait_and_cannot_be_served_fail_alone(store: Store) -> None:
    store.writer.start()
    refuse_claims(store.file)
    failed: list[Exception] = []
    waits = [Claim(store.queue, wait=60), Claim(store.other, wait=60)]

    def wait(claim: Claim) -> None:
        try:
            store.writer.submit(claim)
        except StoreFailed as error:
            failed.append(error)

    threads = [threading.Thread(target=wait, args=(claim,)) for claim in waits]
    for thread in threads:
        thread.start()
    while store.writer.waiting < len(waits):
        store.writer.submit(Task(bool))
    assert store.get(store.create_by_writer()) is not None
    threads[0].join()
    assert len(failed) == 1
    assert store.writer.waiting == 1
    store.writer.stop()
    threads[1].join()
    assert waits[1].outcome() == []


@pytest.mark.parametrize("waits", [False, True])
def test_only_those_who_need_a_damaged_page_are_refused(tmp_path: Path, waits: bool) -> None:
    """On SQLCipher, where its error spoils the connection; see test_damaged for PostgreSQL."""
    store = Store(tmp_path, {})
    store.create(content=b'"%s"' % (b"x" * 900_000), valid_for=0)
    store.file.close()
    damage_the_middle(tmp_path / "jobs.queuedb")
    store = Store(tmp_path, {})
    store.clock.set(NOW)
    store._count = 10
    store.writer.start()
    there = store.create_by_writer()
    wants = Claim(store.queue, wait=60 if waits else 0)
    create, claim = Create(store.other, [store.new()]), Claim(store.other)
    feeds = Create(store.queue, [store.new(priority=1)])
    delete = Delete(store.queue, there)
    submit_together(store.writer, [wants], [create], [claim], [feeds], [delete])
    with pytest.raises(StoreFailed, match="nothing was changed"):
        wants.outcome()
    for done in (create, feeds, delete):
        assert done.outcome() is None
    assert [job.priority for job in claim.outcome()] == [50]
    assert store.get(feeds.jobs[0].uid) is not None
    assert store.get(there) is None
    store.writer.stop()
    store.file.close()


def damage_the_middle(database: Path) -> None:
    """Changes a bit in the middle of the file, where the longest content lies."""
    pages = bytearray(database.read_bytes())
    pages[len(pages) // 2 // 4096 * 4096 + 100] ^= 1
    database.write_bytes(pages)


def refuse_claims(database: Database) -> None:
    """From now on the database refuses to put a job in progress."""
    with database.writer.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(
                "CREATE TRIGGER refuse BEFORE UPDATE ON job WHEN NEW.state = 1"
                " BEGIN SELECT RAISE(ABORT, 'on purpose'); END"
            )
            return
        connection.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF NEW.state = 1 THEN RAISE EXCEPTION 'on purpose'; END IF; RETURN NEW; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE UPDATE ON job FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
