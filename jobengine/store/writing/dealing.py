"""Deals rows at the head of a queue to the claims on it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import structlog

from jobengine.domain.errors import ContentDamaged
from jobengine.domain.job import Job
from jobengine.domain.uids import uid_text
from jobengine.store.tables import statements
from jobengine.store.tables.models import INPROGRESS
from jobengine.store.tables.prepared import Prepared
from jobengine.store.tables.rows import claimed
from jobengine.store.writing.operations import ANSWER_BYTES_MAX, Claim
from jobengine.store.writing.touches import set_aside
from jobengine.store.writing.work import Work

# What a careful batch runs instead: contents are read one by one.
_BARE = {
    statements.HEAD: statements.BARE_HEAD,
    statements.HEAD_AT: statements.BARE_HEAD_AT,
}

_log = structlog.get_logger(component="writer")


class Look(NamedTuple):
    """What a look at jobs found: the row of the first that has expired.

    `last` is the id of the last job, where there may be more behind it; `damaged` says whether
    jobs were set aside.
    """

    expired: Any | None = None
    last: int | None = None
    damaged: bool = False


class Dealing:
    """The claims on one queue, and the one that is dealt to at present, with its jobs."""

    def __init__(self, work: Work, claims: Sequence[Claim]) -> None:
        self.queue = claims[0].queue
        self._work = work
        self._left = list(reversed(claims))
        self._jobs: list[Job] = []
        self._size = 0
        # Where some jobs were damaged, more may follow: as many are read ahead.
        self._ahead = 0
        self._begin()

    @property
    def wanted(self) -> int:
        """How many jobs the claims still want."""
        return max(0, sum(claim.count for claim in self._left) - len(self._jobs))

    def deal(self, head: Prepared, place: Mapping[str, int] | None = None) -> Look:
        """Deals the jobs that the statement finds, as many as are wanted; moves them.

        Those whose contents do not open are failed.
        """
        if not self.wanted:
            return Look()
        limit = self.wanted + self._ahead
        work, expired, seen, last = self._work, None, 0, None
        binds = {"of_queue": self.queue.id, "limit": limit, **(place or {})}
        moves: dict[tuple[int, str], list[int]] = {}
        since: list[int] = []
        damaged: list[Any] = []
        head = _BARE[head] if work.careful else head
        with head.cursor(work.connection, binds) as rows:
            for row in rows:
                seen, last = seen + 1, row[0]
                if row[7] < work.now:
                    expired = expired or row
                    continue
                try:
                    by = self._take(row)
                except ContentDamaged:
                    damaged.append(row)
                    continue
                if by is None:
                    break
                moves.setdefault((self._jobs[-1].last_updated, by), []).append(row[0])
                since.append(row[5] if row[-2] is None else row[-2])
        for (last_updated, by), ids in moves.items():
            work.move((INPROGRESS, work.now, by), last_updated, ids)
        work.tally.claimed(self.queue.id, since, work.now)
        self._set_aside(damaged)
        return Look(expired, last if seen == limit else None, bool(damaged))

    def cut_short(self) -> None:
        """Leaves the claims that have no job yet to the next batch."""
        self._work.cut.add(self.queue.id)
        for claim in self._left[: -1 if self._jobs else None]:
            if not claim.parked:
                claim.postpone()

    def _set_aside(self, rows: Sequence[Any]) -> None:
        if rows:
            set_aside(self._work, rows)
            self._work.clearable -= len(rows)
            self._ahead += len(rows)
        for row in rows:
            _log.error("job set aside as failed", job=uid_text(row[1]), queue=self.queue.name)

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
                self._jobs = []
                return None
            claim = self._begin()
        whole = self._work.contents.open(row[1], content or self._work.content(id_))
        self._jobs.append(claimed(row, whole, self._work.now))
        self._size += length
        return claim.by

    def _begin(self) -> Claim:
        """Goes on to the next claim."""
        self._jobs, self._size = [], 0
        claim = self._left[-1]
        claim.settle(self._jobs)
        return claim
