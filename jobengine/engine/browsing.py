"""Jobs as people look through them: by filters, in any order, by what is in their contents."""

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import msgspec
from sqlalchemy import Connection

from jobengine.domain.clock import Clock
from jobengine.domain.errors import UnknownJob
from jobengine.domain.job import DAMAGED, Job, State
from jobengine.domain.queue import Queue
from jobengine.domain.uids import uid_text
from jobengine.engine.queues import Queues
from jobengine.engine.views import Detail, Filter, Listed, Order, Page, Step
from jobengine.store import browse
from jobengine.store.browse import LAST_ID, Place, Scope
from jobengine.store.reads import Reads
from jobengine.store.tables.history import History, with_history
from jobengine.store.tables.models import CODE_OF, INPROGRESS, STATE_OF
from jobengine.store.tables.rows import Stored

_CHUNK = 250
# What one call may look through, so that none takes longer than a moment.
_STEP_JOBS = 2_000
_STEP_BYTES = 16 * 1024 * 1024
# Jobs whose time is over, and which no sweep has been at, that a page passes over at most.
_OVER_MAX = 2_000


class Browsing:
    """Reads jobs for the pages, in short steps; nothing waits for it. Raises StoreFailed."""

    def __init__(self, reads: Reads, queues: Queues, clock: Clock) -> None:
        self._reads = reads
        self._queues = queues
        self._clock = clock

    def page(
        self,
        queue: str,
        chosen: Filter,
        order: Order = Order.QUEUE,
        after: Place | None = None,
        limit: int = 50,
        *,
        contents: bool = True,
    ) -> Page:
        """The first `limit` jobs after a place. Raises UnknownQueue."""
        found: list[Listed] = []
        looked_at = 0
        with self._reads.connection() as connection:
            part = _Part(self._queues.get(queue), chosen, order, after, limit + 1)
            for place, here in self._walk(connection, part):
                looked_at += 1
                if here is not None:
                    if len(found) == limit:
                        return Page(found, found[-1].place, looked_at)
                    found.append(self._listed(place, here, contents=contents))
                if looked_at == limit + _OVER_MAX:
                    return Page(found, place, looked_at)
        return Page(found, None, looked_at)

    def search(
        self,
        queue: str,
        chosen: Filter,
        text: str,
        order: Order = Order.QUEUE,
        after: Place | None = None,
        limit: int = 50,
    ) -> Page:
        """Jobs after a place whose contents have the text, whatever its case.

        Looks through so many that it takes a moment, and may find none: `after` says
        where to go on. Raises UnknownQueue.
        """
        wanted, found = text.casefold(), list[Listed]()
        looked_at = size = 0
        with self._reads.connection() as connection:
            part = _Part(self._queues.get(queue), chosen, order, after, _CHUNK)
            for place, here in self._walk(connection, part):
                looked_at += 1
                if here is not None:
                    content = self._content(connection, here)
                    size += len(content)
                    if content != DAMAGED and wanted in readable(content):
                        found.append(self._listed(place, here, contents=True))
                if len(found) == limit or looked_at == _STEP_JOBS or size >= _STEP_BYTES:
                    return Page(found, place, looked_at)
        return Page(found, None, looked_at)

    def job(self, uid: bytes) -> Detail:
        """A job, whatever queue it is in. Raises UnknownJob."""
        with self._reads.connection() as connection:
            found = with_history(connection, uid)
        if found is None:
            raise UnknownJob
        lies, kept = found
        queue, here = self._queue_of(lies), self._aged(lies)
        if queue is None or here is None:
            raise UnknownJob
        job = here.as_job(self._reads.open(uid, here.content or b""))
        return Detail(job, queue, _steps(job, kept), kept.past().dropped)

    def find(self, beginning: str, limit: int = 20) -> list[Listed]:
        """The newest jobs, of all queues, whose uids begin so."""
        digits = beginning.strip().lower().replace("-", "")
        try:
            low, high = (bytes.fromhex(digits.ljust(32, end)) for end in "0f")
        except ValueError:
            return []
        if not digits or len(digits) > 32:
            return []
        with self._reads.connection() as connection:
            ids = [id_ for id_, _ in browse.by_uid(connection, low, high, limit)]
            jobs = browse.jobs(connection, [Place(0, id_) for id_ in ids])
        seen = [(Place(0, job.id), self._aged(job)) for job in jobs]
        return [self._listed(at, here, contents=False) for at, here in seen if here is not None]

    def _queue_of(self, job: Stored) -> Queue | None:
        return next((queue for queue in self._queues.all() if queue.id == job.queue_id), None)

    def _aged(self, job: Stored) -> Stored | None:
        queue = self._queue_of(job)
        return None if queue is None else job.at(queue, self._clock.now())

    def _walk(self, connection: Connection, part: "_Part") -> Iterator[tuple[Place, Stored | None]]:
        """The places of the part and the jobs there; None where a job's time is over.

        None, too, for one of another age: ids tell ages only while no clock is set back.
        """
        now = self._clock.now()
        scope = _scope(connection, part.queue, part.chosen, now)
        following = _places(connection, scope, part.order, part.after)
        while places := list(islice(following, part.chunk)):
            jobs = {job.id: job for job in browse.jobs(connection, places)}
            for place in places:
                here = jobs.get(place.id)
                if here is not None and not part.chosen.lets_through(now - here.created):
                    here = None
                yield place, None if here is None else here.at(part.queue, now)

    def _content(self, connection: Connection, job: Stored) -> bytes:
        content = self._reads.content(connection, job)
        return b"" if content is None else self._reads.open(job.uid, content)

    def _listed(self, place: Place, here: Stored, *, contents: bool) -> Listed:
        shown, standing = here.content if contents else None, here.standing
        return Listed(
            place=place,
            uid=uid_text(here.uid),
            state=standing.state,
            priority=standing.priority,
            created=here.created,
            last_updated=standing.last_updated,
            timeout_time=standing.timeout_time,
            content=None if shown is None else self._reads.open(here.uid, shown),
        )


def _steps(job: Job, kept: History) -> list[Step]:
    found = kept.past()
    claims = found.claims - sum(code == INPROGRESS for code, _, _ in found.steps)
    steps = [Step(State.QUEUED, job.created, kept.creator or "")]
    for code, time, by in found.steps:
        claims += code == INPROGRESS
        steps.append(Step(STATE_OF[code], time, by, claims))
    if job.state is not STATE_OF[kept.code]:
        # Its window is over, and no sweep has been at it.
        steps.append(Step(job.state, job.last_updated))
    return steps


class _Part(msgspec.Struct, frozen=True):
    """What part of a queue is looked through, and how many jobs at once."""

    queue: Queue
    chosen: Filter
    order: Order
    after: Place | None
    chunk: int


def _scope(connection: Connection, queue: Queue, chosen: Filter, now: int) -> Scope:
    states = list(STATE_OF) if chosen.state is None else [CODE_OF[chosen.state]]
    if chosen.but_state is not None:
        states = [code for code in states if code != CODE_OF[chosen.but_state]]
    first, last = 0, LAST_ID
    if chosen.newer_than is not None:
        first = browse.first_created_at(connection, now - chosen.newer_than)
    if chosen.older_than is not None:
        last = browse.first_created_at(connection, now - chosen.older_than + 1) - 1
    return Scope(queue.id, states, chosen.highest, chosen.lowest, first, last, chosen.but_priority)


def _places(
    connection: Connection, scope: Scope, order: Order, after: Place | None
) -> Iterator[Place]:
    if order is Order.QUEUE:
        return browse.in_queue_order(connection, scope, after)
    return browse.by_age(connection, scope, after, newest_first=order is Order.NEWEST)


def readable(content: bytes) -> str:
    """A content as it is searched: as it was sent, and with its characters written out.

    Its case is folded.
    """
    text = content.decode("utf-8", "replace")
    if "\\u" in text:
        with suppress(ValueError, RecursionError):
            text = f"{text}\n{json.dumps(json.loads(text), ensure_ascii=False)}"
    return text.casefold()
