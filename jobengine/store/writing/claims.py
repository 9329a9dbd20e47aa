"""The claims of a batch: jobs at the head of a queue are dealt, what stands in the way is cleared.

The head is read without a look at the time, so that a claim never walks further than the jobs
that it takes, however many have expired before them. The expired jobs that it meets are deleted
in chunks, a job whose content does not open is set aside as failed, and the head is read again;
a batch that has cleared its share leaves the claim to the next.
"""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

import structlog

from jobengine.domain.errors import ContentDamaged
from jobengine.domain.job import Job
from jobengine.domain.uids import uid_text
from jobengine.store.tables import statements, sweeps
from jobengine.store.tables.models import INPROGRESS
from jobengine.store.tables.prepared import Prepared
from jobengine.store.tables.rows import claimed
from jobengine.store.writing.operations import ANSWER_BYTES_MAX, Claim
from jobengine.store.writing.touches import set_aside
from jobengine.store.writing.traces import read_traces
from jobengine.store.writing.work import Work

# Jobs that are looked at, and deleted where they have expired, by one statement.
_CHUNK = 500
# What it costs to clear next to nothing and read the head again, in jobs deleted.
_ROUND_COSTS = 50

_log = structlog.get_logger(component="writer")


def claim_all(work: Work, operations: Sequence[Claim]) -> None:
    """Deals the jobs of each queue to the claims on it.

    Settles every claim, except those that the next batch has to go on with: they are
    postponed or, parked ones, to be served there (`work.cut`).
    """
    by_queue = attrgetter("queue.id")
    for _, group in groupby(sorted(operations, key=by_queue), by_queue):
        claims = []
        for claim in group:
            claim.settle([])
            if claim.after is None or not claim.after.refused:
                claims.append(claim)
        if claims:
            _claim(work, claims)


def _claim(work: Work, claims: Sequence[Claim]) -> None:
    """Deals the head of one queue to its claims, in the order of their arrival."""
    dealing = _Dealing(work, claims)
    unexpired = False
    while dealing.deal(unexpired=unexpired):
        if dealing.expired is not None and not work.steady():
            unexpired = True
        elif work.clearable <= 0:
            dealing.cut_short()
            break
        else:
            _clear(work, dealing)
    traced = [claim for claim in claims if claim.traced and not claim.pending]
    if traced:
        read_traces(work.connection, traced)


def _clear(work: Work, dealing: "_Dealing") -> None:
    """Takes what stood in the way out of it."""
    cleared, first, queue = len(dealing.damaged), dealing.expired, dealing.queue
    if dealing.damaged:
        set_aside(work, dealing.damaged)
        for row in dealing.damaged:
            _log.error("job set aside as failed", job=uid_text(row[1]), queue=queue.name)
    if first is not None:
        # With the expired among the jobs that follow it.
        binds = {"first": first[0], "of_priority": first[4], "now": work.now, "limit": _CHUNK}
        cleared += sweeps.expire_head(work.connection, work.tally, queue, binds)
    work.clearable -= cleared + _ROUND_COSTS


class _Dealing:
    """The claims on one queue, and the one that is dealt to at present, with its jobs."""

    def __init__(self, work: Work, claims: Sequence[Claim]) -> None:
        self.queue = claims[0].queue
        # What stood in the way of the last deal: the row of the first job that has expired,
        # and those of the jobs whose contents do not open.
        self.expired: Any | None = None
        self.damaged: list[Any] = []
        self._work = work
        self._left = list(reversed(claims))
        self._begin()

    def deal(self, *, unexpired: bool) -> bool:
        """Deals the jobs at the head; whether something was in the way of more.

        With `unexpired` it walks past the expired ones.
        """
        self.expired, self.damaged = None, []
        wanted = sum(claim.count for claim in self._left) - len(self._jobs)
        if not wanted:
            return False
        work = self._work
        binds = {"of_queue": self.queue.id, "limit": wanted, "now": work.now}
        moves: dict[tuple[int, str], list[int]] = {}
        since: list[int] = []
        with _head(work, unexpired=unexpired).cursor(work.connection, binds) as rows:
            for row in rows:
                if row[7] < work.now:
                    self.expired = self.expired or row
                    continue
                try:
                    by = self._take(row)
                except ContentDamaged:
                    self.damaged.append(row)
                    continue
                if by is None:
                    break
                last_updated = self._jobs[-1].last_updated
                moves.setdefault((last_updated, by), []).append(row[0])
                since.append(row[5] if row[-2] is None else row[-2])
        for (last_updated, by), ids in moves.items():
            work.move((INPROGRESS, work.now, by), last_updated, ids)
        work.tally.claimed(self.queue.id, since, work.now)
        return bool(self._left) and (self.expired is not None or bool(self.damaged))

    def cut_short(self) -> None:
        """Leaves the claims that have no job yet to the next batch."""
        self._work.cut.add(self.queue.id)
        for claim in self._left[: -1 if self._jobs else None]:
            if not claim.parked:
                claim.postpone()

    def _take(self, row: Any) -> str | None:
        """Deals a job; by whom it is claimed, None where every claim has what it wants.

        Raises ContentDamaged.
        """
        id_, content = row[0], row[-1]
        length = self._work.size(id_) if content is None else len(content)
        claim = self._left[-1]
        if len(self._jobs) == claim.count or (
            self._jobs and self._size + length > ANSWER_BYTES_MAX
        ):
            self._left.pop()
            if not self._left:
                return None
            claim = self._begin()
        whole = self._work.contents.open(row[1], content or self._work.content(id_))
        self._jobs.append(claimed(row, whole, self._work.now))
        self._size += length
        return claim.by

    def _begin(self) -> Claim:
        """Goes on to the next claim."""
        self._jobs: list[Job] = []
        self._size = 0
        claim = self._left[-1]
        claim.settle(self._jobs)
        return claim


def _head(work: Work, *, unexpired: bool) -> Prepared:
    if work.careful:
        return statements.BARE_HEAD_UNEXPIRED if unexpired else statements.BARE_HEAD
    return statements.HEAD_UNEXPIRED if unexpired else statements.HEAD
