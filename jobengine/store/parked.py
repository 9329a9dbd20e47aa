"""The claims that wait for a job. The writer's thread alone touches them."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jobengine.store.latches import Latch
from jobengine.store.operations import Claim


class _Parked(NamedTuple):
    """A claim, the latch that its caller waits for, and when it gives up."""

    claim: Claim
    latch: Latch
    deadline: float


class ParkedClaims:
    """Claims that found nothing, by queue in the order of their arrival.

    Times are readings of Clock.elapsed, in seconds.
    """

    def __init__(self) -> None:
        self._by_queue: dict[int, deque[_Parked]] = {}
        self._asked: set[int] = set()
        self._next_deadline: float | None = None
        self._closed = False

    def takes(self, claim: Claim) -> bool:
        """Whether the claim is to wait: it found nothing, was not refused, and may."""
        return claim.wait > 0 and not self._closed and not claim.refused and not claim.outcome()

    def add(self, claim: Claim, latch: Latch, deadline: float) -> None:
        """Parks a claim, until a job comes or the deadline passes."""
        self._by_queue.setdefault(claim.queue.id, deque()).append(_Parked(claim, latch, deadline))
        if self._next_deadline is None or deadline < self._next_deadline:
            self._next_deadline = deadline

    def waiting(self, queue_id: int) -> Sequence[Claim]:
        """The claims that wait for a job in the queue and are still wanted, oldest first."""
        self._asked.add(queue_id)
        return [p.claim for p in self._by_queue.get(queue_id, ()) if p.claim.wanted()]

    def release_served(self) -> None:
        """Lets go of the claims that a batch has given jobs to, now that it is committed."""
        for queue_id in self._asked:
            self._keep(queue_id, lambda parked: not parked.claim.outcome())
        self._asked.clear()

    def reset(self) -> None:
        """Takes back what a batch has given them, since it was undone."""
        for queue_id in self._asked:
            for parked in self._by_queue.get(queue_id, ()):
                parked.claim.settle([])
        self._asked.clear()

    def expire(self, now: float) -> None:
        """Lets go of the claims whose deadline has passed, with nothing."""
        if self._next_deadline is None or now < self._next_deadline:
            return
        for queue_id in list(self._by_queue):
            self._keep(queue_id, lambda parked: parked.deadline > now)
        deadlines = [p.deadline for queue in self._by_queue.values() for p in queue]
        self._next_deadline = min(deadlines, default=None)

    def close(self) -> None:
        """Lets go of every claim, with nothing, and takes none any more."""
        self._closed = True
        self.expire(float("inf"))

    def next_deadline(self) -> float | None:
        """No claim gives up before this; None where none waits."""
        return self._next_deadline

    def _keep(self, queue_id: int, stays: Callable[[_Parked], bool]) -> None:
        """Lets go of the claims on a queue that do not stay."""
        kept: deque[_Parked] = deque()
        for parked in self._by_queue.pop(queue_id, ()):
            if stays(parked):
                kept.append(parked)
            else:
                parked.latch.open()
        if kept:
            self._by_queue[queue_id] = kept
