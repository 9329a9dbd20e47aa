"""How far claims have come behind expired jobs, where one batch was not enough."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

# Seconds after which nobody has gone on with a walk, and it is forgotten.
_FORGOTTEN = 10


class Place(NamedTuple):
    """A place in queue order: a priority, and an id within it."""

    priority: int
    id: int


class Walks:
    """A place for each queue, by its id, with expired jobs alone before it.

    A job that came to the queue meanwhile may lie before it: then the walk is `missing` jobs,
    and must begin again before it may say that there are none. The writer's thread alone
    touches it.
    """

    def __init__(self) -> None:
        self._places: dict[int, tuple[Place, int]] = {}
        self._fed: set[int] = set()
        # The id of the queue that was the first of a batch to come no further; 0 for none.
        self.turn = 0

    def place(self, queue_id: int, now: int) -> Place | None:
        """Where to go on; None where to begin at the head."""
        place, time = self._places.get(queue_id, (None, now))
        return place if 0 <= now - time <= _FORGOTTEN else None

    def missing(self, queue_id: int) -> bool:
        """Whether jobs may have come to the queue since the walk began."""
        return queue_id in self._fed

    def feed(self, queue_ids: Collection[int] | None) -> None:
        """Notes that jobs have come to the queues; None for any queue."""
        every = self._places.keys()
        self._fed |= every if queue_ids is None else every & set(queue_ids)

    def keep(self, walked: Mapping[int, Place | None], now: int) -> None:
        """Notes where a batch that is committed came to; None for the end of a walk."""
        for queue_id, place in walked.items():
            if place is not None:
                self._places[queue_id] = place, now
            else:
                self._places.pop(queue_id, None)
                self._fed.discard(queue_id)
