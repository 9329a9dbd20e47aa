"""What a batch may take on: jobs that a queue has room for, contents that an answer has."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from jobengine.domain.errors import QueueFull
from jobengine.domain.queue import Queue
from jobengine.store.tables import depths
from jobengine.store.tables.rows import Stored
from jobengine.store.writing.operations import ANSWER_BYTES_MAX, Create, Update


def with_room(connection: Connection, creates: Sequence[Create]) -> Sequence[Create]:
    """The creates that their queues have room for; refuses the others with QueueFull.

    What other servers create in the same instant is not seen.
    """
    if all(create.queue.max_jobs is None for create in creates):
        return creates
    held: dict[int, int] = {}
    taken = []
    for create in creates:
        queue, jobs = create.queue, len(create.jobs)
        if queue.max_jobs is not None:
            if queue.id not in held:
                held[queue.id] = depths.unfinished(connection, queue.id)
            if held[queue.id] + jobs > queue.max_jobs:
                create.refuse(_full(queue, held[queue.id], jobs))
                continue
            held[queue.id] += jobs
        taken.append(create)
    return taken


def _full(queue: Queue, held: int, jobs: int) -> QueueFull:
    return QueueFull(
        f"the queue {queue.name!r} may hold {queue.max_jobs} jobs that are queued or in progress; "
        f"it holds {held}, and {jobs} would be too many: try again when some are finished"
    )


class Room:
    """What is left in the answers that several updates share."""

    def __init__(self, size: Callable[[int], int]) -> None:
        """`size` reads how long the content of the job of an id is."""
        self._size = size
        self._taken: dict[object, int] = {}

    def takes(self, update: Update, job: Stored) -> bool:
        """Whether the job's content fits into the update's answer; notes it there."""
        if update.answer is None:
            return True
        content = update.changes.content or job.new_content or job.content
        size = self._size(job.id) if content is None else len(content)
        taken = self._taken.get(update.answer, 0)
        if taken and taken + size > ANSWER_BYTES_MAX:
            return False
        self._taken[update.answer] = taken + size
        return True
