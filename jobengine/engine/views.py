"""What people look through: filters and orders, pages of jobs, one job and its past."""

from collections.abc import Sequence
from enum import Enum

import msgspec

from jobengine.domain.job import PRIORITY_MAX, PRIORITY_MIN, Job, State
from jobengine.domain.queue import Queue
from jobengine.store.browse import LAST_ID, Place


class Order(Enum):
    """In which order jobs are looked through."""

    QUEUE = "queue"  # as they are claimed
    NEWEST = "newest"  # the one created last first
    OLDEST = "oldest"


class Filter(msgspec.Struct, frozen=True):
    """Which jobs; ages in seconds since they were created, priorities with both ends.

    Those that lie in `but_state`, or have `but_priority`, are left out.
    """

    state: State | None = None
    highest: int = PRIORITY_MAX
    lowest: int = PRIORITY_MIN
    older_than: int | None = None
    newer_than: int | None = None
    but_state: State | None = None
    but_priority: int | None = None

    def lets_through(self, age: int) -> bool:
        """Whether a job is neither too young nor too old."""
        young = self.older_than is not None and age < self.older_than
        old = self.newer_than is not None and age > self.newer_than
        return not (young or old)


class Listed(msgspec.Struct, frozen=True):
    """A job in a list. `content` is None where it is long, or not asked for."""

    place: Place
    uid: str
    state: State
    priority: int
    created: int
    last_updated: int
    timeout_time: int
    content: bytes | None


class Page(msgspec.Struct, frozen=True):
    """Some jobs, and after which place the others follow; None where there are none."""

    jobs: list[Listed]
    after: Place | None
    # How many were looked at for it.
    looked_at: int = 0


def place_text(place: Place) -> str:
    """A place as it stands in an address."""
    return f"{place.priority}-{place.id}"


def place_in(text: str) -> Place | None:
    """The place in a text of `place_text`; None for any other text."""
    priority, dash, id_ = text.partition("-")
    if not dash or not (priority + id_).isascii() or not (priority + id_).isdigit():
        return None
    if not priority or not id_ or len(priority) > 3 or len(id_) > len(str(LAST_ID)):
        return None
    place = Place(int(priority), int(id_))
    return place if place.id < LAST_ID else None  # there is an id after it


class Step(msgspec.Struct, frozen=True):
    """Something that happened to a job: at what time it came into a state, and by whom.

    `who` is the name of a service or of a user, and nothing where it is not known, or was a
    window that ended; `times` counts the claims until then.
    """

    state: State
    time: int
    who: str = ""
    times: int = 0


class Detail(msgspec.Struct, frozen=True):
    """A job, the queue that it is in, and what happened to it: made, then each of its states.

    `dropped` is how many steps after the first are no longer kept.
    """

    job: Job
    queue: Queue
    steps: Sequence[Step]
    dropped: int = 0
