"""Rows into jobs."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import bindparam, case, func, literal_column, null, select

from jobengine.domain.job import Changes, Job, Standing, State, aged, claimed_at, updated
from jobengine.domain.queue import Queue
from jobengine.domain.uids import uid_text
from jobengine.store.tables.models import CODE_OF, STATE_OF, job

# Every column that a job is made from, in the order in which `stored` takes them.
JOB_COLUMNS = (
    job.c.id,
    job.c.uid,
    job.c.queue_id,
    job.c.state,
    job.c.priority,
    job.c.created,
    job.c.last_updated,
    job.c.timeout_time,
    job.c.valid_for,
    job.c.since,
    job.c.content,
)

# A longer content is read by itself, when it is needed and there is room for it.
_BRIEF_BYTES = 4096
# What the write path reads of a job, in the order in which `stored` and `claimed` take it.
BRIEF_COLUMNS = (
    *JOB_COLUMNS[:-1],
    case((func.length(job.c.content) <= literal_column(str(_BRIEF_BYTES)), job.c.content)).label(
        "content"
    ),
)
# As those two, without the content: one that is damaged fails whatever reads it.
BARE_COLUMNS = (*JOB_COLUMNS[:-1], null().label("content"))

# What is kept of a job beside that, for people.
HISTORY_COLUMNS = (
    job.c.creator,
    job.c.claims,
    job.c.claimed,
    job.c.claimer,
    job.c.changer,
    job.c.earlier,
)
# The jobs that follow an id, as they lie in the table, and the content that one of them lacks.
FOLLOWING, BARE_FOLLOWING = (
    select(*columns[:-1], *HISTORY_COLUMNS, job.c.trace, columns[-1])
    .where(job.c.id > bindparam("after"))
    .order_by(job.c.id)
    .limit(bindparam("limit"))
    for columns in (BRIEF_COLUMNS, BARE_COLUMNS)
)
CONTENT_OF = select(job.c.content).where(job.c.id == bindparam("id"))


# A job came into a state, by its number, at a time; by nobody where its window was over.
Passed = tuple[int, int, str]


@dataclass(slots=True)
class Stored:
    """A job as it lies in the table; its content may not have been read yet."""

    id: int
    uid: bytes
    queue_id: int
    created: int
    content: bytes | None  # as it lies there
    standing: Standing
    # When it came into the state that it lies in; None where that was not noted.
    since: int | None
    # The number of the state that it lies in, whatever time has made of it since.
    code: int
    new_content: bytes | None = None
    moved_only: bool = True
    # What it came into since it was read.
    passed: list[Passed] = field(default_factory=list)

    def change(self, changes: Changes, now: int, by: str = "") -> None:
        """Applies an update by somebody, to a job that is as time has made it by `now`."""
        before, self.standing = self.standing, updated(self.standing, changes, now)
        if before.state is not self.standing.state:
            self.passed.append((CODE_OF[self.standing.state], now, by))
        if before.priority != self.standing.priority or (
            before.timeout_time != self.standing.timeout_time
        ):
            self.moved_only = False
        if changes.content is not None:
            self.new_content = changes.content

    def as_job(self, content: bytes) -> Job:
        """The job as a client sees it, with its content, without a look at the time."""
        standing = self.standing
        return Job(
            content=msgspec.Raw(content),
            created=self.created,
            last_updated=standing.last_updated,
            priority=standing.priority,
            state=standing.state,
            timeout_time=standing.timeout_time,
            uid=uid_text(self.uid),
        )

    def at(self, queue: Queue, now: int) -> "Stored | None":
        """The job as time has made it by `now`; None when its time is over."""
        standing = aged(self.standing, queue, now)
        if standing is None or self.queue_id != queue.id:
            return None
        if standing.state is not self.standing.state:
            self.passed.append((CODE_OF[standing.state], standing.last_updated, ""))
        self.standing = standing
        return self


def stored(row: Any) -> Stored:
    """The job in a row of JOB_COLUMNS, or of BRIEF_COLUMNS."""
    id_, uid, queue_id, state, priority, created, last, timeout, valid_for, since, content = row
    standing = Standing(STATE_OF[state], priority, last, timeout, valid_for)
    return Stored(id_, uid, queue_id, created, content, standing, since, state)


def claimed(row: Any, content: bytes, now: int) -> Job:
    """The job in a row of BRIEF_COLUMNS once it is claimed, with its content.

    The shortest way, since a bulk claim takes it a thousand times.
    """
    _, uid, _, _, priority, created, last_updated, timeout, _, _, _ = row
    last_updated = claimed_at(now, created, last_updated)
    raw = msgspec.Raw(content)
    return Job(raw, created, last_updated, priority, State.INPROGRESS, timeout, uid_text(uid))
