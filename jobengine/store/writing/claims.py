"""The claims of a batch."""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

import structlog

from jobengine.domain.errors import ContentDamaged
from jobengine.domain.job import Job
from jobengine.domain.uids import uid_text
from jobengine.store.tables import statements
from jobengine.store.tables.models import INPROGRESS
from jobengine.store.tables.rows import claimed
from jobengine.store.writing.operations import ANSWER_BYTES_MAX, Claim
from jobengine.store.writing.touches import set_aside
from jobengine.store.writing.traces import read_traces
from jobengine.store.writing.work import Work

# How often the head of a queue is read again behind jobs with damaged contents. Each time takes
# in as many more as have been met, so that a batch sets some thousand of them aside.
_ROUNDS = 10

_log = structlog.get_logger(component="writer")


def claim_all(work: Work, operations: Sequence[Claim]) -> None:
    """Deals the jobs of each queue to the claims on it; settles every claim."""
    by_queue = attrgetter("queue.id")
    for _, group in groupby(sorted(operations, key=by_queue), by_queue):
        claims = []
        for claim in group:
            claim.settle([])
            if claim.after is None or not claim.after.refused:
                claims.append(claim)
        if claims:
            _claim(work, claims)


def _claim(work: Work, operations: Sequence[Claim]) -> None:
    """Deals the head of one queue to its claims, in the order of their arrival.

    A job whose content does not open is set aside, and the one behind it dealt.
    """
    queue = operations[0].queue
    limit = sum(claim.count for claim in operations)
    for _ in range(_ROUNDS):
        dealing = _Dealing(work, operations)
        binds = {"of_queue": queue.id, "limit": limit, "now": work.now}
        head = statements.BARE_HEAD if work.careful else statements.HEAD
        with head.cursor(work.connection, binds) as rows:
            dealing.deal(rows)
        if not dealing.damaged:
            break
        limit += len(dealing.damaged)
        set_aside(work, dealing.damaged)
        for row in dealing.damaged:
            _log.error("job set aside as failed", job=uid_text(row[1]), queue=queue.name)
    for (last_updated, by), ids in dealing.moves.items():
        work.move((INPROGRESS, work.now, by), last_updated, ids)
    work.tally.claimed(queue.id, dealing.since, work.now)
    traced = [claim for claim in operations if claim.traced]
    if traced:
        read_traces(work.connection, traced)


class _Dealing:
    """Jobs dealt to claims in turn; what is to be written of it, and what could not be dealt."""

    def __init__(self, work: Work, claims: Sequence[Claim]) -> None:
        self._work = work
        self._claims = claims
        # The ids by what their last_updated becomes, and who claims them.
        self.moves: dict[tuple[int, str], list[int]] = {}
        self.since: list[int] = []
        self.damaged: list[Any] = []

    def deal(self, rows: Any) -> None:
        """Settles the claims with the jobs in the rows, until there are no more of either."""
        work, claims = self._work, iter(self._claims)
        claim, jobs, size = next(claims), list[Job](), 0
        for row in rows:
            id_, content = row[0], row[-1]
            length = work.size(id_) if content is None else len(content)
            if len(jobs) == claim.count or (jobs and size + length > ANSWER_BYTES_MAX):
                claim.settle(jobs)
                following = next(claims, None)
                if following is None:
                    return
                claim, jobs, size = following, [], 0
            try:
                whole = work.contents.open(row[1], content or work.content(id_))
            except ContentDamaged:
                self.damaged.append(row)
                continue
            job = claimed(row, whole, work.now)
            jobs.append(job)
            size += length
            self.moves.setdefault((job.last_updated, claim.by), []).append(id_)
            self.since.append(job.created if row[-2] is None else row[-2])
        claim.settle(jobs)
