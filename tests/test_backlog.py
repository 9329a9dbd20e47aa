"""What goes into a batch: small calls first, large ones in turn, neither starves."""

import pytest

from jobengine.domain.job import Changes
from jobengine.domain.queue import Queue
from jobengine.store.writing.backlog import Backlog
from jobengine.store.writing.operations import (
    Claim,
    Create,
    Delete,
    NewJob,
    Operation,
    Sweep,
    Task,
    Update,
)
from jobengine.store.writing.submissions import Submission

QUEUE = Queue(1, "q", frozenset(), frozenset(), 600, 3600)
KB = 1024


def create(jobs: int = 1, size: int = 2) -> Submission:
    """Creates so many jobs of so many bytes."""
    new = [NewJob(n.to_bytes(16), 50, 0, 9, 9, b"x" * size) for n in range(jobs)]
    return Submission([Create(QUEUE, new)])


def batch(backlog: Backlog) -> list[int]:
    """How many jobs each submission of the next batch creates."""
    taken = backlog.take()
    return [sum(len(o.jobs) for o in s.operations if isinstance(o, Create)) for s in taken]


def filled(*submissions: Submission) -> Backlog:
    backlog = Backlog()
    for submission in submissions:
        backlog.add(submission)
    return backlog


@pytest.mark.parametrize(
    ("operation", "weight"),
    [
        (create(1).operations[0], 1),
        (create(1000).operations[0], 1000),
        (create(1, 1024 * KB).operations[0], 257),
        (create(1000, 4 * KB).operations[0], 2000),
        (Update(QUEUE, b"", Changes(priority=1)), 1),
        (Update(QUEUE, b"", Changes(content=b"x" * 1024 * KB)), 257),
        (Delete(QUEUE, b""), 1),
        (Claim(QUEUE), 1),
        (Claim(QUEUE, 1000), 1000),
        (Task(bool), 1),
        (Sweep(lambda _connection, _tally: None), 500),
    ],
)
def test_an_operation_weighs_what_its_jobs_and_contents_do(
    operation: Operation[object], weight: int
) -> None:
    assert operation.weight == weight


def test_a_lone_create_goes_before_the_bulk_creates_that_came_first() -> None:
    backlog = filled(*(create(1000) for _ in range(64)), create())
    assert batch(backlog) == [1, 1000, 1000]
    assert batch(backlog) == [1000, 1000]


def test_a_bulk_create_goes_with_every_batch_of_lone_creates() -> None:
    backlog = filled(*(create() for _ in range(2000)), create(1000), create(1000))
    assert batch(backlog) == [*[1] * 512, 1000]
    assert batch(backlog) == [*[1] * 512, 1000]
    assert batch(backlog) == [1] * 512


@pytest.mark.parametrize(
    ("jobs", "together"), [(500, 4), (512, 4), (513, 3), (1024, 2), (1025, 1), (5000, 1)]
)
def test_bulk_creates_share_a_batch_up_to_its_weight(jobs: int, together: int) -> None:
    backlog = filled(*(create(jobs) for _ in range(5)))
    assert batch(backlog) == [jobs] * together


def test_long_contents_count_as_many_jobs() -> None:
    backlog = filled(*(create(1, 1024 * KB) for _ in range(20)), create(1, 60 * KB), create())
    assert batch(backlog) == [1] * 9, "the two short ones, and seven of a MiB"


def test_all_of_it_is_taken_in_the_order_of_arrival_and_then_none() -> None:
    made = [create(1 + n % 20) for n in range(300)]
    backlog = filled(*made)
    taken: list[Submission] = []
    while backlog:
        taken += backlog.take()
    assert set(map(id, taken)) == set(map(id, made))
    for kind in (True, False):
        order = [s for s in taken if (s.weight <= 16) is kind]
        assert order == [s for s in made if (s.weight <= 16) is kind]
    assert not backlog.take()
