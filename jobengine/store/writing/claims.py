"""The claims of a batch: jobs at the head of a queue are dealt, expired ones there deleted.

The head is read without a look at the time, so that a claim never walks further than the jobs
that it takes, however many have expired before them. What it meets there is deleted in chunks
and the head read again; a batch that has deleted its share leaves the claim to the next.
"""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from jobengine.domain.job import Job
from jobengine.store.tables import statements, sweeps
from jobengine.store.tables.models import INPROGRESS
from jobengine.store.tables.prepared import Prepared
from jobengine.store.tables.rows import claimed
from jobengine.store.writing.operations import ANSWER_BYTES_MAX, Claim
from jobengine.store.writing.traces import read_traces
from jobengine.store.writing.work import Work

# Jobs that are looked at, and deleted where they have expired, by one statement.
_CHUNK = 500
# What a chunk costs where it deletes next to nothing, in jobs deleted.
_CHUNK_COSTS = 50


def claim_all(work: Work, operations: Sequence[Claim]) -> None:
    """Deals the jobs of each queue to the claims on it.

    Settles every claim, but for those that the next batch has to go on with: they are
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
    expired = dealing.deal(statements.HEAD)
    while expired is not None:
        if not work.steady():
            dealing.deal(statements.HEAD_UNEXPIRED)
            break
        if work.expirable <= 0:
            dealing.cut_short()
            break
        _expire(work, claims[0], expired)
        expired = dealing.deal(statements.HEAD)
    traced = [claim for claim in claims if claim.traced and not claim.pending]
    if traced:
        read_traces(work.connection, traced)


def _expire(work: Work, claim: Claim, first: Any) -> None:
    """Deletes the expired among the jobs that follow the row `first`, with that."""
    binds = {"first": first[0], "of_priority": first[4], "now": work.now, "limit": _CHUNK}
    deleted = sweeps.expire_head(work.connection, work.tally, claim.queue, binds)
    work.expirable -= deleted + _CHUNK_COSTS


class _Dealing:
    """The claims on one queue, and the one that is dealt to at present, with its jobs."""

    def __init__(self, work: Work, claims: Sequence[Claim]) -> None:
        self._work = work
        self._queue = claims[0].queue
        self._left = list(reversed(claims))
        self._begin()

    def deal(self, head: Prepared) -> Any | None:
        """Deals the jobs at the head.

        Gives the row of the first of them that has expired; None where none has, or nobody
        wants more.
        """
        wanted = sum(claim.count for claim in self._left) - len(self._jobs)
        if not wanted:
            return None
        work, expired = self._work, None
        binds = {"of_queue": self._queue.id, "limit": wanted, "now": work.now}
        moves: dict[tuple[int, str], list[int]] = {}
        since: list[int] = []
        with head.cursor(work.connection, binds) as rows:
            for row in rows:
                if row[7] < work.now:
                    expired = expired or row
                    continue
                by = self._take(row)
                if by is None:
                    break
                last_updated = self._jobs[-1].last_updated
                moves.setdefault((last_updated, by), []).append(row[0])
                since.append(row[5] if row[-2] is None else row[-2])
        for (last_updated, by), ids in moves.items():
            work.move((INPROGRESS, work.now, by), last_updated, ids)
        work.tally.claimed(self._queue.id, since, work.now)
        return expired if self._left else None

    def cut_short(self) -> None:
        """Leaves the claims that have no job yet to the next batch."""
        self._work.cut.add(self._queue.id)
        for claim in self._left[: -1 if self._jobs else None]:
            if not claim.parked:
                claim.postpone()

    def _take(self, row: Any) -> str | None:
        """Deals a job; by whom it is claimed, None where every claim has what it wants."""
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
