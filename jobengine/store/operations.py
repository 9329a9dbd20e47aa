"""What can be written: each operation, and where its caller waits for the outcome."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import Connection

from jobengine.domain.job import Changes, Job
from jobengine.domain.queue import Queue

T = TypeVar("T")


class Operation(Generic[T]):
    """Something for the writer to do for a caller that waits.

    The writer settles or refuses it inside the batch, as often as it has to try,
    and releases the caller once the batch is committed or given up.
    """

    __slots__ = ("_done", "_error", "_outcome")

    def __init__(self) -> None:
        # A bare lock, taken now and freed by the writer, is the cheapest hand-off
        # between two threads: an Event costs three times as much.
        self._done = threading.Lock()
        self._done.acquire()
        self._error: Exception | None = None
        self._outcome: T | None = None

    def settle(self, outcome: T) -> None:
        """The outcome, once the batch is committed."""
        self._outcome, self._error = outcome, None

    def refuse(self, error: Exception) -> None:
        """The error that the caller gets instead."""
        self._error = error

    def release(self) -> None:
        """Lets the caller go."""
        self._done.release()

    def wait(self) -> T:
        """Waits for the release; gives the outcome or raises the error."""
        self._done.acquire()
        if self._error is not None:
            raise self._error
        return self._outcome  # type: ignore[return-value]  # settled, since not refused


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to insert. Times in seconds; `uid` the 16 bytes of a UUIDv7."""

    uid: bytes
    priority: int
    created: int
    timeout_time: int
    valid_for: int
    content: bytes


class Create(Operation[None]):
    """Inserts jobs into a queue, all or none."""

    __slots__ = ("jobs", "queue")

    def __init__(self, queue: Queue, jobs: Sequence[NewJob]) -> None:
        super().__init__()
        self.queue = queue
        self.jobs = jobs


class Claim(Operation[list[Job]]):
    """Puts up to `count` queued jobs in progress; gives them in queue order."""

    __slots__ = ("count", "queue")

    def __init__(self, queue: Queue, count: int = 1) -> None:
        super().__init__()
        self.queue = queue
        self.count = count


class Update(Operation[Job]):
    """Changes a job; refused with UnknownJob where it is not in the queue."""

    __slots__ = ("changes", "queue", "uid")

    def __init__(self, queue: Queue, uid: bytes, changes: Changes) -> None:
        super().__init__()
        self.queue = queue
        self.uid = uid
        self.changes = changes


class Delete(Operation[None]):
    """Deletes a job; refused with UnknownJob where it is not in the queue."""

    __slots__ = ("queue", "uid")

    def __init__(self, queue: Queue, uid: bytes) -> None:
        super().__init__()
        self.queue = queue
        self.uid = uid


class Task(Operation[T]):
    """Anything else that must be written: reconcile, a chunk of a duty."""

    __slots__ = ("run",)

    def __init__(self, run: Callable[[Connection], T]) -> None:
        super().__init__()
        self.run = run
