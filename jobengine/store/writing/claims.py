"""The claims of a batch: the jobs at the head of a queue are dealt to those who ask.

The head is read without a look at the time, so that a plain claim walks no further than the
jobs that it takes. Expired jobs there are deleted, a chunk a batch; behind more of them the
claim walks on in the index, a bounded way, and the next batch goes on where it came to. A job
whose content does not open is set aside as failed (dealing.py).
"""

from bisect import bisect
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from jobengine.store.tables import statements, sweeps
from jobengine.store.writing.dealing import Dealing
from jobengine.store.writing.operations import Claim
from jobengine.store.writing.traces import read_traces
from jobengine.store.writing.walks import Place
from jobengine.store.writing.work import Work

_by_queue = attrgetter("queue.id")

# Jobs that are looked at by one statement, and deleted where they have expired.
_CHUNK = 500
# Jobs that are walked by one statement: 0.3 to 0.8 µs for each.
_STRETCH = 1000
# What a statement costs that finds next to nothing, in jobs cleared or walked.
_STATEMENT_COSTS = 50


def claim_all(work: Work, operations: Sequence[Claim]) -> None:
    """Deals the jobs of each queue to the claims on it.

    Settles every claim, except those that the next batch has to go on with: they are
    postponed or, where parked, to be served there (`work.cut`).
    """
    for queue_id, group in groupby(_in_turn(work, operations), _by_queue):
        claims = []
        for claim in group:
            claim.settle([])
            if claim.after is None or not claim.after.refused:
                claims.append(claim)
        if claims:
            untroubled = not work.cut
            _claim(work, claims)
            if untroubled and work.cut:
                work.walks.turn = queue_id


def _in_turn(work: Work, operations: Sequence[Claim]) -> Sequence[Claim]:
    """The claims queue by queue, from the one after whose turn it was.

    Those that come first may take all that a batch clears and walks.
    """
    claims = sorted(operations, key=_by_queue)
    turned = bisect(claims, work.walks.turn, key=_by_queue)
    return claims[turned:] + claims[:turned] if turned else claims


def _claim(work: Work, claims: Sequence[Claim]) -> None:
    """Deals the head of one queue to its claims, in the order of their arrival."""
    dealing = Dealing(work, claims)
    look = dealing.deal(statements.HEAD)
    while (look.damaged or (look.expired is not None and work.steady())) and work.clearable > 0:
        work.clearable -= _STATEMENT_COSTS
        if look.expired is not None and work.steady():
            _expire(work, claims[0], look.expired)
        look = dealing.deal(statements.HEAD)
    if look.expired is not None and dealing.wanted:
        _go_behind(work, dealing, Place(priority=look.expired[4], id=look.expired[0]))
    elif look.damaged and dealing.wanted:
        dealing.cut_short()
    traced = [claim for claim in claims if claim.traced and not claim.pending]
    if traced:
        read_traces(work.connection, traced)


def _expire(work: Work, claim: Claim, first: Any) -> None:
    """Deletes the expired among the jobs that follow the row `first`, with that."""
    binds = {"first": first[0], "of_priority": first[4], "now": work.now, "limit": _CHUNK}
    work.clearable -= sweeps.expire_head(work.connection, work.tally, claim.queue, binds)


def _go_behind(work: Work, dealing: Dealing, head: Place) -> None:
    """Deals the jobs behind the expired at the head, or behind where the walk before came to."""
    queue_id = dealing.queue.id
    begun = work.walks.place(queue_id, work.now)
    place = work.walked[queue_id] = _walk(work, dealing, begun or head)
    missing = begun is not None and work.walks.missing(queue_id)
    if dealing.wanted and (place is not None or missing):
        dealing.cut_short()


def _walk(work: Work, dealing: Dealing, place: Place) -> Place | None:
    """Deals the jobs behind a place in the queue that have not expired.

    Gives the place to go on at, where that is too far for one batch.
    """
    while dealing.wanted:
        if work.walkable <= 0:
            return place
        following = _step(work, dealing, place)
        if following is None:
            return None
        place = following
    return None


def _step(work: Work, dealing: Dealing, place: Place) -> Place | None:
    """Deals from a stretch of one priority; the place behind it, None at the queue's end."""
    at = {"of_queue": dealing.queue.id, "of_priority": place.priority, "first": place.id}
    with statements.STRETCH.cursor(
        work.connection, {**at, "now": work.now, "limit": _STRETCH}
    ) as rows:
        walked, last, unexpired = rows.fetchone()
    work.walkable -= walked + _STATEMENT_COSTS
    if unexpired is not None:
        look = dealing.deal(statements.HEAD_AT, {**at, "first": unexpired})
        if look.last is not None:
            return Place(place.priority, look.last + 1)
    elif walked == _STRETCH:
        return Place(place.priority, last + 1)
    with statements.PRIORITY_BELOW.cursor(work.connection, at) as rows:
        below = rows.fetchone()
    return None if below is None else Place(below[0], 0)
