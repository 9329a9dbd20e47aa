"""What people do with jobs, one or many: retried, completed, failed, deleted, changed."""

from collections.abc import Sequence
from enum import Enum

import msgspec
from sqlalchemy import Connection

from jobengine.domain.audit import Act, Actor
from jobengine.domain.clock import Clock
from jobengine.domain.errors import Conflict, UnknownJob
from jobengine.domain.job import Changes, Job, State
from jobengine.domain.queue import Queue
from jobengine.domain.uids import uid_bytes, uid_text
from jobengine.engine.browsing import Browsing
from jobengine.engine.queues import Queues
from jobengine.engine.views import Filter, Order
from jobengine.store.database import Database
from jobengine.store.tables.audit import record
from jobengine.store.writing.operations import Delete, Task, Update
from jobengine.store.writing.writer import Writer

# Jobs at once, which is what a claim may have to wait behind.
_CHUNK = 500
# What one call does of many jobs, so that it ends in seconds.
STEP_MAX = 10_000
# Of so many jobs the trail tells the uids.
_NAMED_MAX = 20


class Action(Enum):
    """What is done to jobs, by its name in the audit trail after `job.`."""

    RETRY = "retried"  # back to queued
    COMPLETE = "completed"
    FAIL = "failed"
    DELETE = "deleted"
    PRIORITISE = "prioritised"


_GOES_TO = {
    Action.RETRY: State.QUEUED,
    Action.COMPLETE: State.COMPLETE,
    Action.FAIL: State.FAILED,
}


class Chosen(msgspec.Struct, frozen=True):
    """A job to act on, and the state that it was seen in; for an edit, its edition too."""

    uid: bytes
    state: State
    edition: str = ""


class Deed(msgspec.Struct, frozen=True):
    """An action, and the priority that it gives where it gives one."""

    action: Action
    priority: int | None = None

    def changes(self) -> Changes:
        """What it asks of a job."""
        return Changes(status=_GOES_TO.get(self.action), priority=self.priority)

    def among(self, filter_: Filter) -> Filter:
        """The jobs of a filter that it does something to, but for what time did since."""
        state, priority = _GOES_TO.get(self.action), self.priority
        return msgspec.structs.replace(filter_, but_state=state, but_priority=priority)

    def leaves(self, state: State) -> bool:
        """Whether it does nothing to a job in the state."""
        return _GOES_TO.get(self.action) is state


class Done(msgspec.Struct, frozen=True):
    """How many jobs were acted on, and how many were not: gone, or in another state by then.

    `more` says that there are more to act on.
    """

    jobs: int
    missed: int
    more: bool = False


class Desk:
    """Acts on jobs for people, with an entry in the audit trail in the same commit.

    Every method raises UnknownQueue and Unavailable, and returns only when what it did is
    on disk.
    """

    def __init__(
        self, writer: Writer, browsing: Browsing, queues: Queues, database: Database, clock: Clock
    ) -> None:
        self._writer = writer
        self._browsing = browsing
        self._queues = queues
        self._database = database
        self._clock = clock

    def act(self, actor: Actor, name: str, chosen: Sequence[Chosen], deed: Deed) -> Done:
        """Acts on those of the jobs that are still in the state that they were seen in."""
        queue = self._queues.get(name)
        jobs = missed = 0
        for at in range(0, len(chosen), _CHUNK):
            done = self._act(actor, queue, chosen[at : at + _CHUNK], deed)
            jobs, missed = jobs + done.jobs, missed + done.missed
        return Done(jobs, missed)

    def act_on_all(self, actor: Actor, name: str, filter_: Filter, deed: Deed) -> Done:
        """Acts on all jobs of a filter, up to STEP_MAX of them."""
        filter_ = deed.among(filter_)
        jobs = missed = 0
        after = None
        while jobs + missed < STEP_MAX:
            # By age, since a job that was given another priority would come again.
            page = self._browsing.page(
                name, filter_, Order.OLDEST, after, limit=_CHUNK, contents=False
            )
            chosen = [
                Chosen(uid_bytes(job.uid) or b"", job.state)
                for job in page.jobs
                if not deed.leaves(job.state)
            ]
            if chosen:
                done = self.act(actor, name, chosen, deed)
                jobs, missed = jobs + done.jobs, missed + done.missed
            after = page.after
            if after is None:
                return Done(jobs, missed)
        return Done(jobs, missed, more=True)

    def change(self, actor: Actor, name: str, chosen: Chosen, changes: Changes) -> Job:
        """Changes one job. Raises UnknownJob, and Conflict where it is not as it was seen."""
        queue = self._queues.get(name)
        update = Update(
            queue,
            chosen.uid,
            changes,
            actor.name,
            expected=chosen.state,
            edition=chosen.edition,
        )
        fields = {
            field: value if field != "content" else "new"
            for field, value in msgspec.structs.asdict(changes).items()
            if value is not None and field != "status"
        }
        detail = {"queue": queue.name, **fields}

        def note(connection: Connection) -> None:
            if not update.refused:
                self._record(connection, Act(actor, "job.changed", uid_text(chosen.uid), detail))

        noted = Task(note)
        self._writer.submit_all([update, noted])
        noted.outcome()
        return update.outcome()

    def revealed(self, actor: Actor, name: str, uid: bytes) -> None:
        """Notes in the trail that the content of a job was shown."""
        act = Act(actor, "job.revealed", uid_text(uid), {"queue": name})
        self._writer.submit(Task(lambda connection: self._record(connection, act)))

    def _act(self, actor: Actor, queue: Queue, chosen: Sequence[Chosen], deed: Deed) -> Done:
        operations = [_operation(actor, queue, job, deed) for job in chosen]

        def note(connection: Connection) -> None:
            done = [o.uid for o in operations if not o.refused]
            if not done:
                return
            detail: dict[str, object] = {"jobs": len(done)}
            if len(done) <= _NAMED_MAX:
                detail["uids"] = [uid_text(uid) for uid in done]
            if deed.priority is not None:
                detail["priority"] = deed.priority
            self._record(connection, Act(actor, f"job.{deed.action.value}", queue.name, detail))

        noted = Task(note)
        self._writer.submit_all([*operations, noted])
        noted.outcome()
        done = sum(_was_done(operation) for operation in operations)
        return Done(done, len(operations) - done)

    def _record(self, connection: Connection, act: Act) -> None:
        self._database.lock_shared(connection)
        record(connection, self._database.contents, [act], self._clock.now())


def _operation(actor: Actor, queue: Queue, job: Chosen, deed: Deed) -> Update | Delete:
    if deed.action is Action.DELETE:
        return Delete(queue, job.uid, actor.name, expected=job.state)
    return Update(queue, job.uid, deed.changes(), actor.name, expected=job.state)


def _was_done(operation: Update | Delete) -> bool:
    """Raises what concerns all of them, e.g. StoreFailed."""
    try:
        operation.outcome()
    except (UnknownJob, Conflict):
        return False
    return True
