"""The claims of a batch."""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from jobengine.domain.job import Job
from jobengine.store.tables import statements
from jobengine.store.tables.models import INPROGRESS
from jobengine.store.tables.rows import claimed
from jobengine.store.writing.operations import ANSWER_BYTES_MAX, Claim
from jobengine.store.writing.traces import read_traces
from jobengine.store.writing.work import Work


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
    """Deals the head of one queue to its claims, in the order of their arrival."""
    limit = sum(claim.count for claim in operations)
    binds = {"of_queue": operations[0].queue.id, "limit": limit, "now": work.now}
    moves: dict[tuple[int, str], list[int]] = {}
    since: list[int] = []
    with statements.HEAD.cursor(work.connection, binds) as rows:
        claims = iter(operations)
        claim, jobs, size = next(claims), list[Job](), 0
        for row in rows:
            id_, content = row[0], row[-1]
            length = work.size(id_) if content is None else len(content)
            if len(jobs) == claim.count or (jobs and size + length > ANSWER_BYTES_MAX):
                claim.settle(jobs)
                following = next(claims, None)
                if following is None:
                    break
                claim, jobs, size = following, [], 0
            whole = work.contents.open(row[1], content or work.content(id_))
            job = claimed(row, whole, work.now)
            jobs.append(job)
            size += length
            moves.setdefault((job.last_updated, claim.by), []).append(id_)
            since.append(job.created if row[-2] is None else row[-2])
        else:
            claim.settle(jobs)
    for (last_updated, by), ids in moves.items():
        work.move((INPROGRESS, work.now, by), last_updated, ids)
    work.tally.claimed(operations[0].queue.id, since, work.now)
    traced = [claim for claim in operations if claim.traced]
    if traced:
        read_traces(work.connection, traced)
