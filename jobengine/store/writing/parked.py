"""The claims that wait for a job. The writer's thread alone touches them, but to count them."""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from jobengine.store.writing.latches import Latch
from jobengine.store.writing.operations import Claim

# How often those that wait are asked whether they still want a job.
_LOOK_SECONDS = 1.0


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
        self._next_look: float | None = None
        self._closed = False

    def takes(self, claim: Claim) -> bool:
        """Whether the claim is to wait: it found nothing, was not refused, and may."""
        return claim.wait > 0 and not self._closed and _unserved(claim)

    def add(self, claim: Claim, latch: Latch, now: float) -> None:
        """Parks a claim, until a job comes or its time is up."""
        claim.parked = True
        parked = _Parked(claim, latch, now + claim.wait)
        self._by_queue.setdefault(claim.queue.id, deque()).append(parked)
        look = min(parked.deadline, now + _LOOK_SECONDS)
        if self._next_look is None or look < self._next_look:
            self._next_look = look

    def waiting(self, queue_id: int) -> Sequence[Claim]:
        """The claims that wait for a job in the queue, oldest first.

        Not those that nobody wants, nor, refused here, those that are not permitted by now.
        """
        self._asked.add(queue_id)
        parked = self._by_queue.get(queue_id, ())
        return [p.claim for p in parked if p.claim.wanted() and p.claim.permitted()]

    def waited_for(self, queue_ids: Collection[int] | None) -> set[int]:
        """Those of the queues (None: of all) that a claim waits for."""
        every = self._by_queue.keys()
        return set(every) if queue_ids is None else every & set(queue_ids)

    def release_served(self) -> None:
        """Lets go of the claims that a batch has served or refused, now that it is committed."""
        for queue_id in self._asked:
            self._keep(queue_id, lambda parked: _unserved(parked.claim))
        self._asked.clear()

    def release_refused(self, queue_id: int) -> None:
        """Lets go of the claims on a queue that were refused, though nothing was committed."""
        self._keep(queue_id, lambda parked: not parked.claim.refused)

    def reset(self) -> None:
        """Takes back what a batch has given them, since it was undone."""
        for queue_id in self._asked:
            for parked in self._by_queue.get(queue_id, ()):
                parked.claim.settle([])
        self._asked.clear()

    def look(self, now: float) -> None:
        """Lets go of the claims whose time is up or that nobody wants, and refuses others.

        Those are the ones that are not permitted any more.
        """
        if self._next_look is None or now < self._next_look:
            return
        for queue_id in list(self._by_queue):
            self._keep(queue_id, lambda parked: _stays(parked, now))
        deadlines = [p.deadline for queue in self._by_queue.values() for p in queue]
        self._next_look = min([*deadlines, now + _LOOK_SECONDS]) if deadlines else None

    def look_soon(self) -> None:
        """Has the next call of `look` ask all claims, whatever the time."""
        if self._next_look is not None:
            self._next_look = float("-inf")

    def count(self) -> int:
        """How many claims wait; any thread may ask."""
        return sum(len(parked) for parked in list(self._by_queue.values()))

    def close(self) -> None:
        """Lets go of every claim, with nothing, and takes none any more."""
        self._closed = True
        self.look(float("inf"))

    def next_look(self) -> float | None:
        """When to call `look` again; None where no claim waits."""
        return self._next_look

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


def _unserved(claim: Claim) -> bool:
    return not claim.refused and not claim.outcome()


def _stays(parked: _Parked, now: float) -> bool:
    claim = parked.claim
    return claim.permitted() and parked.deadline > now and claim.wanted()
