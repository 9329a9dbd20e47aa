"""What happened to a job: the states that it came into, when, and by whom.

Its creation, its last claim and its present state have columns of their own, which is all that
most jobs ever need. What is about to be written over there, when a job is put back or changes
its state after its end, goes to one text, `earlier`, first.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, select, update

from jobengine.store.failures import or_bare
from jobengine.store.tables.models import COMPLETE, FAILED, INPROGRESS, QUEUED, job
from jobengine.store.tables.prepared import Prepared, PreparedList
from jobengine.store.tables.rows import (
    BARE_COLUMNS,
    HISTORY_COLUMNS,
    JOB_COLUMNS,
    Passed,
    Stored,
    stored,
)

# How many steps the text of a job holds at most; older ones are dropped, and counted.
STEPS_MAX = 50

_COLUMNS = (job.c.id, job.c.state, job.c.created, job.c.last_updated, job.c.since, *HISTORY_COLUMNS)
OF_UID = select(*JOB_COLUMNS, *HISTORY_COLUMNS).where(job.c.uid == bindparam("uid"))
_BARE_OF_UID = select(*BARE_COLUMNS, *HISTORY_COLUMNS).where(job.c.uid == bindparam("uid"))
_OF_IDS = PreparedList(lambda ids: select(*_COLUMNS).where(job.c.id.in_(ids)))
_KEEP = Prepared(
    update(job)
    .where(job.c.id == bindparam("job_id"))
    .values(claims=bindparam("new_claims"), earlier=bindparam("new_earlier")),
    order=("new_claims", "new_earlier", "job_id"),
)


class Past(msgspec.Struct, array_like=True):
    """The text, read: the steps in it, how many came before them, and the claims until then."""

    steps: list[Passed] = []
    dropped: int = 0
    claims: int = 0


class History(NamedTuple):
    """The columns that say what happened to a job: see `models.job`."""

    id: int
    code: int  # of the state that it lies in
    created: int
    last_updated: int
    since: int | None
    creator: str | None
    claims: int | None
    claimed: int | None
    claimer: str | None
    changer: str | None
    earlier: str | None

    def past(self) -> Past:
        """What happened after its creation, up to the state that it lies in.

        What a version before did not note is told by what there is.
        """
        known = Past()
        if self.earlier is not None:
            known = msgspec.json.decode(self.earlier, type=Past)
        steps, claims = list(known.steps), self.claims or 0
        if claims > known.claims:
            steps.append((INPROGRESS, self.claimed or self.created, self.claimer or ""))
        present = (
            self.code,
            self.last_updated if self.since is None else self.since,
            self.changer or "",
        )
        put_back = self.code == QUEUED and (self.since or 0) > self.created
        if self.code in (COMPLETE, FAILED) or (put_back and present not in known.steps[-1:]):
            steps.append(present)
        return Past(steps, known.dropped, claims)


def written_over(code: int, passed: Sequence[Passed]) -> bool:
    """Whether a job that lies in a state loses what its columns say by what happened to it."""
    return len(passed) > 1 or passed[0][0] == QUEUED or code in (COMPLETE, FAILED)


def keep(connection: Connection, jobs: Mapping[int, Sequence[Passed]]) -> int:
    """Keeps what is about to be written over of jobs, given by their ids; how many there were.

    The last thing that happened is left to their columns, but that they were put back: the next
    claim writes over that.
    """
    rows = []
    for row in _OF_IDS.rows(connection, list(jobs)):
        here = History(*row)
        found, passed = here.past(), jobs[here.id]
        kept = passed if passed[-1][0] == QUEUED else passed[:-1]
        steps, claims = [*found.steps, *kept], found.claims + _claims(kept)
        dropped = found.dropped + max(0, len(steps) - STEPS_MAX)
        text = msgspec.json.encode(Past(steps[-STEPS_MAX:], dropped, claims)).decode()
        rows.append((claims, text, here.id))
    return _KEEP.many(connection, rows)


def with_history(connection: Connection, uid: bytes) -> tuple[Stored, History] | None:
    """A job and what happened to it, of one instant; None where there is no such job."""
    row = or_bare(
        connection,
        lambda: connection.execute(OF_UID, {"uid": uid}).one_or_none(),
        lambda: connection.execute(_BARE_OF_UID, {"uid": uid}).one_or_none(),
    )
    if row is None:
        return None
    lies, kept = stored(row[: len(JOB_COLUMNS)]), row[len(JOB_COLUMNS) :]
    last_updated = lies.standing.last_updated
    return lies, History(lies.id, lies.code, lies.created, last_updated, lies.since, *kept)


def _claims(steps: Sequence[Passed]) -> int:
    return sum(code == INPROGRESS for code, _, _ in steps)
