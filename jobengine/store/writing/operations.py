"""What can be written: each operation, and what it came to."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import Connection

from jobengine.domain.errors import JobEngineError
from jobengine.domain.job import Changes, Job, State
from jobengine.domain.queue import Queue
from jobengine.store.tables.tally import Tally

T = TypeVar("T")

# What the contents in one answer may have together, in bytes, but for the first.
ANSWER_BYTES_MAX = 16 * 1024 * 1024


# Raises the JobEngineError of a caller who may no longer do what it was let in for.
Permit = Callable[[], None]


class Operation(Generic[T]):
    """Something for the writer to do. It settles or refuses it, as often as it has to try."""

    __slots__ = ("_error", "_outcome", "_permit")

    def __init__(self, permit: Permit | None = None) -> None:
        self._error: Exception | None = None
        self._outcome: T | None = None
        self._permit = permit

    def permitted(self) -> bool:
        """Whether its caller may still have it done; where not, it is refused.

        The writer asks before each batch that it is to be part of.
        """
        if self._permit is None:
            return True
        try:
            self._permit()
        except JobEngineError as error:
            self.refuse(error)
            return False
        return True

    def settle(self, outcome: T) -> None:
        """Notes what it came to, should the batch be committed."""
        self._outcome, self._error = outcome, None

    def refuse(self, error: Exception) -> None:
        """Notes the error that its caller gets instead."""
        self._error = error

    @property
    def refused(self) -> bool:
        """Whether its caller gets an error."""
        return self._error is not None

    def outcome(self) -> T:
        """What it came to. Raises what it was refused with."""
        if self._error is not None:
            raise self._error
        return self._outcome  # type: ignore[return-value]  # settled, since not refused


class NewJob(msgspec.Struct, frozen=True, gc=False):
    """A job to insert. Times in seconds; `uid` the 16 bytes of a UUIDv7."""

    uid: bytes
    priority: int
    created: int
    timeout_time: int
    valid_for: int
    content: bytes


class Create(Operation[None]):
    """Inserts jobs into a queue, all or none. `by` is who makes them, as in the others.

    `trace` is the traceparent to keep with them.
    """

    __slots__ = ("by", "jobs", "queue", "trace")

    def __init__(
        self,
        queue: Queue,
        jobs: Sequence[NewJob],
        by: str = "",
        trace: str | None = None,
        *,
        permit: Permit | None = None,
    ) -> None:
        super().__init__(permit)
        self.queue = queue
        self.jobs = jobs
        self.by = by
        self.trace = trace


class _Touch(Operation[T]):
    """Something done to one job.

    Refused with UnknownJob where it is not in the queue, and with Conflict where it is not
    in the state that is `expected`.
    """

    __slots__ = ("by", "expected", "queue", "uid")

    def __init__(
        self,
        queue: Queue,
        uid: bytes,
        by: str = "",
        expected: State | None = None,
        *,
        permit: Permit | None = None,
    ) -> None:
        super().__init__(permit)
        self.queue = queue
        self.uid = uid
        self.by = by
        self.expected = expected

    def finds(self, state: State) -> bool:
        """Whether it may be done to a job in the state."""
        return self.expected is None or self.expected is state


class Update(_Touch[Job]):
    """Changes a job.

    Those that one answer is to tell of share an `answer`, and are refused with AnswerFull
    where the contents before theirs fill it. With an `edition` it is refused with Conflict
    where the job is another by then.
    """

    __slots__ = ("answer", "changes", "edition")

    def __init__(
        self,
        queue: Queue,
        uid: bytes,
        changes: Changes,
        by: str = "",
        *,
        answer: object | None = None,
        expected: State | None = None,
        edition: str = "",
        permit: Permit | None = None,
    ) -> None:
        super().__init__(queue, uid, by, expected, permit=permit)
        self.changes = changes
        self.answer = answer
        self.edition = edition


class Delete(_Touch[None]):
    """Deletes a job."""

    __slots__ = ()


def _always() -> bool:
    return True


class Claim(Operation[list[Job]]):
    """Puts up to `count` queued jobs in progress; gives them in queue order.

    `after` is an update that must not have been refused. A claim that finds nothing
    waits up to `wait` seconds for a job, for as long as `wanted` says that there is
    still somebody to give it to. Where it is `traced`, `traces` are those that the
    jobs were created with, each once, in queue order.
    """

    __slots__ = ("after", "by", "count", "queue", "traced", "traces", "wait", "wanted")

    def __init__(
        self,
        queue: Queue,
        count: int = 1,
        by: str = "",
        *,
        after: Update | None = None,
        wait: float = 0,
        wanted: Callable[[], bool] = _always,
        traced: bool = False,
        permit: Permit | None = None,
    ) -> None:
        super().__init__(permit)
        self.queue = queue
        self.count = count
        self.by = by
        self.after = after
        self.wait = wait
        self.wanted = wanted
        self.traced = traced
        self.traces: Sequence[str] = ()


class Task(Operation[T]):
    """Anything else that must be written: reconcile, a chunk of a duty.

    It is refused where it raises NotFound or Conflict, which it may before it has written.
    """

    __slots__ = ("of", "run", "then")

    def __init__(
        self,
        run: Callable[[Connection], T],
        of: "Sequence[Operation[Any]]" = (),
        then: Callable[[T], None] | None = None,
    ) -> None:
        """What it writes is `of` other operations, submitted with it: all are done, or none.

        The writer's thread calls `then` with the outcome once it is committed, before the next
        batch and before the caller goes on; it must neither raise nor wait.
        """
        super().__init__()
        self.run = run
        self.of = of
        self.then = then


class Sweep(Operation[T]):
    """As Task, for what moves jobs: it counts in the tally what it does to them.

    The batch notes the depths at its end, of all queues in one order: a sweep that did it by
    itself could deadlock with another server's batch.
    """

    __slots__ = ("run",)

    def __init__(self, run: Callable[[Connection, Tally], T]) -> None:
        super().__init__()
        self.run = run
