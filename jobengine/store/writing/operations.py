"""What can be written: each operation, and what it came to."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import Connection

from jobengine.domain.errors import JobEngineError, OutcomeUnknown
from jobengine.domain.job import Changes, Job, State
from jobengine.domain.queue import Queue
from jobengine.store.tables.tally import Tally

T = TypeVar("T")

# What the contents in one answer may have together, in bytes, but for the first.
ANSWER_BYTES_MAX = 16 * 1024 * 1024

# So many bytes of content take the writer about as long as a job.
_BYTES_A_JOB = 4096
# What a sweep may touch at once.
_SWEEP_JOBS = 500

_PENDING: Any = object()
_UNANSWERED = (
    "the writer has left the call without an outcome: the change may have been made, or may "
    "not; look before you make it again"
)


# Raises the JobEngineError of a caller who may no longer do what it was let in for.
Permit = Callable[[], None]


class Operation(Generic[T]):
    """Something for the writer to do. It settles or refuses it, as often as it has to try."""

    __slots__ = ("_error", "_outcome", "_permit")

    def __init__(self, permit: Permit | None = None) -> None:
        self._error: Exception | None = None
        self._outcome: T = _PENDING
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

    @property
    def weight(self) -> int:
        """How long it takes, in jobs: small calls go before large ones."""
        return 1

    def postpone(self) -> None:
        """Takes back what it came to: it has none until it is settled or refused."""
        self._outcome, self._error = _PENDING, None

    @property
    def pending(self) -> bool:
        """Whether it has been neither settled nor refused."""
        return self._error is None and self._outcome is _PENDING

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
        """What it came to. Raises what it was refused with; OutcomeUnknown while pending."""
        if self._error is not None:
            raise self._error
        if self._outcome is _PENDING:
            raise OutcomeUnknown(_UNANSWERED)
        return self._outcome


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

    @property
    def weight(self) -> int:
        """See Operation."""
        size = sum([len(new.content) for new in self.jobs])
        return len(self.jobs) + size // _BYTES_A_JOB


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

    @property
    def weight(self) -> int:
        """See Operation."""
        content = self.changes.content
        return 1 if content is None else 1 + len(content) // _BYTES_A_JOB


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
    jobs were created with, each once, in queue order. It is `parked` once it waits, and is
    `left` once what it was sent with is committed without it.
    """

    __slots__ = (
        *("after", "by", "count", "left", "parked", "queue", "traced", "traces", "wait"),
        "wanted",
    )

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
        self.parked = False
        self.left = False

    def permitted(self) -> bool:
        """See Operation. One that is `left` finds nothing instead of being refused.

        Its caller must be told of what was sent with it, which is done.
        """
        if super().permitted():
            return True
        if self.left:
            self.settle([])
        return False

    @property
    def weight(self) -> int:
        """See Operation."""
        return self.count


class Task(Operation[T]):
    """Anything else that must be written: reconcile, a chunk of a duty.

    It is refused where it raises NotFound or Conflict, which it may before it has written.
    """

    __slots__ = ("run", "then")

    def __init__(
        self, run: Callable[[Connection], T], then: Callable[[T], None] | None = None
    ) -> None:
        """The writer's thread calls `then` with the outcome once it is committed.

        It does so before the next batch, and before the caller goes on; `then` must neither
        raise nor wait.
        """
        super().__init__()
        self.run = run
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

    @property
    def weight(self) -> int:
        """See Operation."""
        return _SWEEP_JOBS
