"""Claims on queues whose head has expired: what they pass over, delete and cost."""

import itertools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from sqlalchemy import Connection, event, func, select, update

from jobengine.domain.errors import Forbidden, OutcomeUnknown, Stopping
from jobengine.domain.job import Changes, Job, State
from jobengine.domain.queue import Queue
from jobengine.store.tables import depths, statements
from jobengine.store.tables.models import job, queue
from jobengine.store.writing import claims, work
from jobengine.store.writing.claims import claim_all
from jobengine.store.writing.commits import NothingDone
from jobengine.store.writing.operations import Claim, Create, Operation, Task, Update
from jobengine.store.writing.submissions import Submission
from jobengine.store.writing.work import Work
from tests.conftest import Databases
from tests.test_writer import NOW, Store

# More than the claims of three batches walk, where their bounds are narrow.
MANY = 1000


@pytest.fixture
def store(tmp_path: Path, database: dict[str, str]) -> Iterator[Store]:
    made = Store(tmp_path, database)
    yield made
    made.file.close()


def expired(store: Store, jobs: int, queue: Queue | None = None, priority: int = 90) -> Create:
    """Creates jobs at the head of a queue whose time is over already."""
    new = [store.new(timeout_time=NOW - 1, priority=priority) for _ in range(jobs)]
    return Create(queue or store.queue, new)


def stored(store: Store) -> int:
    """How many rows there are."""
    with store.file.readers.connect() as connection:
        return int(connection.execute(select(func.count(job.c.id))).scalar_one())


def priorities(jobs: list[Job]) -> list[int]:
    return [job.priority for job in jobs]


def commit(store: Store, *submissions: Sequence[Operation[Any]]) -> list[Submission]:
    """One batch, committed on this thread, and without the writer's."""
    made = [Submission(operations) for operations in submissions]
    store.writer._commits.commit(made, ())
    return made


def commit_again(store: Store, left: Submission) -> None:
    """A batch that goes on with a claim that was left to it."""
    left.go_on(cast(Claim, left.operations[-1]))
    store.writer._commits.commit([left], ())


def go_on(store: Store, left: Submission) -> int:
    """Runs batches until its claim is answered; how many."""
    batches = 0
    while left.operations[0].pending:
        commit_again(store, left)
        batches += 1
    return batches


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch's claims delete 20 expired jobs, and walk 300."""
    for module, name, value in (
        *((work, "_CLEARABLE", 20), (work, "_WALKABLE", 300)),
        *((claims, "_CHUNK", 20), (claims, "_STRETCH", 100), (claims, "_STATEMENT_COSTS", 0)),
    ):
        monkeypatch.setattr(module, name, value)


def test_a_claim_deletes_what_has_expired_before_its_job_and_says_so(store: Store) -> None:
    store.run(expired(store, 3), expired(store, 2, priority=40), expired(store, 2, store.other))
    store.create(priority=50)
    store.create(priority=30)
    made = [Claim(store.queue), Claim(store.queue, 2), Claim(store.queue)]
    with structlog.testing.capture_logs() as logged:
        commit(store, *([claim] for claim in made))
        store.writer._commits.report()
    assert [priorities(claim.outcome()) for claim in made] == [[50], [30], []]
    assert stored(store) == 4, "those of the other queue are not its concern"
    assert {"queue": "q", "jobs": 5}.items() <= logged[-1].items()
    assert logged[-1]["event"] == "jobs expired"
    with store.file.readers.connect() as connection:
        assert depths.depths(connection)[store.queue.id] == {
            State.QUEUED: 0,
            State.INPROGRESS: 2,
            State.COMPLETE: 0,
            State.FAILED: 0,
        }
    assert store.writer.totals.by_queue[store.queue.id][4] == 5, "counted as expired"


@pytest.mark.parametrize(("timeout", "found"), [(NOW - 1, 0), (NOW, 1), (NOW + 1, 1)])
def test_a_job_may_be_claimed_in_the_second_of_its_timeout(
    store: Store, timeout: int, found: int
) -> None:
    store.create(timeout_time=timeout)
    claim = Claim(store.queue)
    store.run(claim)
    assert len(claim.outcome()) == stored(store) == found


def test_live_jobs_among_expired_ones_are_dealt_in_order(store: Store) -> None:
    for priority in (9, 7, 5, 3):
        store.run(expired(store, 2, priority=priority))
        store.create(priority=priority)
    made = [Claim(store.queue, 2), Claim(store.queue), Claim(store.queue, 5)]
    store.run(*made)
    assert [priorities(claim.outcome()) for claim in made] == [[9, 7], [5], [3]]


@pytest.mark.usefixtures("narrow")
def test_a_batch_walks_a_bounded_way_and_leaves_the_claim_to_the_next(store: Store) -> None:
    store.run(expired(store, MANY))
    store.create(priority=1)
    claim, create = Claim(store.queue), Create(store.other, [store.new()])
    alone, _ = commit(store, [claim], [create])
    create.outcome()  # nobody waits for the end of it
    assert alone.operations[0].pending
    assert stored(store) == MANY + 2 - 20
    assert go_on(store, alone) == 3
    assert priorities(claim.outcome()) == [1]
    assert stored(store) == MANY + 2 - 4 * 20


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("steady", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_claims_on_a_queue_of_many_expired_jobs_leave_some_of_each_batch_to_other_queues(
    store: Store, first: bool, steady: bool
) -> None:
    ours, theirs = (store.queue, store.other) if first else (store.other, store.queue)
    store.run(expired(store, MANY, theirs), expired(store, 10, ours))
    store.run(Create(ours, [store.new(priority=1)]))
    store.clock.set(NOW, steady=steady)
    claim = Claim(ours)
    (left,) = commit(store, [claim], [Claim(theirs)])[:1]
    batches = 1
    while left.operations[0].pending:
        left.go_on(claim)  # beside a claim of theirs that begins anew
        store.writer._commits.commit([left, Submission([Claim(theirs)])], ())
        batches += 1
    assert priorities(claim.outcome()) == [1]
    assert batches <= 2


@pytest.mark.usefixtures("narrow")
def test_while_the_clock_is_not_trusted_a_batch_walks_no_further_either(store: Store) -> None:
    store.run(expired(store, MANY))
    store.create(priority=1)
    store.clock.set(NOW, steady=False)
    claim = Claim(store.queue)
    (alone,) = commit(store, [claim])
    assert go_on(store, alone) == 3
    assert priorities(claim.outcome()) == [1]
    assert stored(store) == MANY + 1


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("updated", [False, True])
def test_a_job_that_comes_behind_a_walk_is_found(store: Store, updated: bool) -> None:
    """The walk has passed its priority by then."""
    failed = store.create(priority=60)
    store.run(Update(store.queue, failed, Changes(status=State.FAILED)))
    store.run(expired(store, MANY), expired(store, MANY, priority=40))
    claim = Claim(store.queue)
    (alone,) = commit(store, [claim])
    while store.writer._commits.walks._places[store.queue.id][0].priority > 40:
        commit_again(store, alone)
    if updated:
        commit(store, [Update(store.queue, failed, Changes(status=State.QUEUED))])
    else:
        commit(store, [Create(store.queue, [store.new(priority=60)])])
    go_on(store, alone)
    assert priorities(claim.outcome()) == [60]


@pytest.mark.usefixtures("narrow")
def test_a_batch_that_is_undone_takes_a_walk_no_further(store: Store) -> None:
    store.run(expired(store, MANY))
    walks = store.writer._commits.walks
    (alone,) = commit(store, [Claim(store.queue)])
    place = walks.place(store.queue.id, NOW)

    def fail(_connection: Connection) -> None:
        raise OSError("the disk is gone")

    event.listen(store.file.writer, "commit", fail)
    with pytest.raises(NothingDone):
        commit_again(store, alone)
    event.remove(store.file.writer, "commit", fail)
    store.writer._commits.renew()  # as the writer does after it
    assert walks.place(store.queue.id, NOW) == place
    go_on(store, alone)
    assert alone.operations[0].outcome() == []


@pytest.mark.usefixtures("narrow")
def test_a_submission_that_is_undone_alone_takes_a_walk_no_further(store: Store) -> None:
    store.run(expired(store, 100), expired(store, MANY, priority=40))
    store.create(priority=80)
    store.clock.set(NOW, steady=False)

    def fail(_connection: Connection) -> None:
        raise RuntimeError("on purpose")

    claim, again = Claim(store.queue, count=2), Claim(store.queue)
    commit(store, [claim, Task(fail)])
    assert claim.refused
    commit(store, [again])
    assert priorities(again.outcome()) == [80]


@pytest.mark.usefixtures("narrow")
def test_a_claim_behind_many_expired_jobs_gets_its_job(store: Store) -> None:
    store.run(expired(store, MANY))
    done, _ = store.create(priority=1), store.create(priority=1)
    store.run(Update(store.queue, done, Changes(status=State.INPROGRESS)))
    store.writer.start()
    finish = Update(store.queue, done, Changes(status=State.COMPLETE))
    claim = Claim(store.queue, after=finish)
    store.writer.submit_all([finish, claim])
    assert finish.outcome().state is State.COMPLETE
    assert priorities(claim.outcome()) == [1]
    assert store.writer.submit(Claim(store.queue)) == []
    store.writer.stop()


@pytest.mark.usefixtures("narrow")
def test_a_claim_that_fails_after_its_update_was_committed_does_not_say_nothing_changed(
    store: Store,
) -> None:
    uid = store.create(priority=1)
    store.run(expired(store, MANY))
    finish = Update(store.queue, uid, Changes(status=State.COMPLETE))
    claim = Claim(store.queue, after=finish)
    (submission,) = commit(store, [finish, claim])
    submission.go_on(claim)
    submission.refuse(RuntimeError("the next batch failed"))
    assert finish.outcome().state is State.COMPLETE
    with pytest.raises(OutcomeUnknown):
        claim.outcome()


@pytest.mark.usefixtures("narrow")
def test_a_permit_that_ends_after_the_update_was_committed_leaves_its_claim_empty(
    store: Store,
) -> None:
    uid, in_force = store.create(priority=1), True

    def permit() -> None:
        if not in_force:
            raise Forbidden("revoked")

    store.run(expired(store, MANY))
    finish = Update(store.queue, uid, Changes(status=State.COMPLETE), permit=permit)
    claim = Claim(store.queue, after=finish, permit=permit)
    alone = Claim(store.queue, permit=permit)
    left = commit(store, [finish, claim], [alone])
    assert [claim.pending, alone.pending] == [True, True]
    in_force = False
    for each in left:
        commit_again(store, each)
    assert (finish.outcome().state, claim.outcome()) == (State.COMPLETE, [])
    with pytest.raises(Forbidden):
        alone.outcome()


@pytest.mark.usefixtures("narrow")
def test_a_stop_after_the_update_was_committed_leaves_its_claim_empty(store: Store) -> None:
    uid = store.create(priority=1)
    store.run(expired(store, MANY))
    finish = Update(store.queue, uid, Changes(status=State.COMPLETE))
    claim, alone = Claim(store.queue, after=finish), Claim(store.queue)
    left = commit(store, [finish, claim], [alone])
    store.writer._stopped.set()
    for each in left:
        store.writer._let_go(each)
    assert (finish.outcome().state, claim.outcome()) == (State.COMPLETE, [])
    with pytest.raises(Stopping):
        alone.outcome()


@pytest.mark.usefixtures("narrow")
def test_a_claim_that_waits_gets_its_job_from_behind_many_expired_ones(store: Store) -> None:
    store.writer.start()
    claim = Claim(store.queue, wait=60)
    thread = threading.Thread(target=lambda: store.writer.submit(claim))
    thread.start()
    while not store.writer.waiting:
        store.writer.submit(Task(bool))
    create = expired(store, MANY)
    create.jobs = [*create.jobs, store.new(priority=1)]
    store.writer.submit(create)
    thread.join()
    assert priorities(claim.outcome()) == [1]
    store.writer.stop()


def test_while_the_clock_is_not_trusted_claims_delete_nothing(store: Store) -> None:
    store.run(expired(store, 30))
    store.create(priority=50)
    store.clock.set(NOW, steady=False)
    made = [Claim(store.queue), Claim(store.queue)]
    commit(store, *([claim] for claim in made))
    assert [priorities(claim.outcome()) for claim in made] == [[50], []]
    assert stored(store) == 31


def test_a_claim_on_a_paused_queue_deletes_nothing(store: Store) -> None:
    store.run(expired(store, 3))
    with store.file.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE queue SET paused = true")
    claim = Claim(store.queue)
    store.run(claim)
    assert (claim.outcome(), stored(store)) == ([], 3)


def test_two_servers_pass_over_the_same_head_at_once(tmp_path: Path, databases: Databases) -> None:
    store = Store(tmp_path, databases.env("postgresql"))
    store.run(expired(store, 5))
    for priority in (20, 10):
        store.create(priority=priority)
    made = [Claim(store.queue), Claim(store.queue)]
    engine, contents = store.file.writer, store.file.contents
    with engine.connect() as first, first.begin(), engine.connect() as second, second.begin():
        for connection, claim in zip((first, second), made, strict=True):
            claim_all(Work(connection, contents, NOW), [claim])
    assert [priorities(claim.outcome()) for claim in made] == [[20], [10]]
    store.file.close()


@pytest.mark.parametrize("paused", [False, True])
def test_a_look_at_the_head_costs_the_same_however_many_jobs_are_there(
    tmp_path: Path, paused: bool
) -> None:
    store = Store(tmp_path, {})  # PostgreSQL counts no steps
    steps = []
    for jobs in (10, 2000):
        store.run(expired(store, jobs))
        with store.file.writer.begin() as connection:
            connection.execute(update(queue).values(paused=paused))
            steps.append(steps_of_head(connection, store.queue))
    assert steps[1] <= steps[0]
    store.file.close()


def steps_of_head(connection: Connection, of: Queue) -> int:
    """How many instructions SQLite runs to read the head of a queue."""
    steps = itertools.count()
    raw: Any = connection.connection.driver_connection
    raw.set_progress_handler(lambda: 0 * next(steps), 1)
    with statements.HEAD.cursor(connection, {"of_queue": of.id, "limit": 1}) as rows:
        rows.fetchall()
    raw.set_progress_handler(None, 1)
    return next(steps)
