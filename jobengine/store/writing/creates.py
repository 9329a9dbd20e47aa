"""The creates of a batch."""

from collections.abc import Sequence
from itertools import chain

from jobengine.store.contents import Contents
from jobengine.store.tables import statements
from jobengine.store.tables.models import QUEUED
from jobengine.store.writing.bounds import with_room
from jobengine.store.writing.operations import Create, NewJob
from jobengine.store.writing.work import Work, expect

# A row of INSERT, in the order of its parameters.
_NewRow = tuple[
    *tuple[bytes, int, int, int, int, int, int, int, bytes, int],
    *tuple[str, int, int, str, str, str | None],
]


def create(work: Work, creates: Sequence[Create]) -> None:
    """Inserts the jobs of those that their queues have room for; settles them."""
    taken = with_room(work.connection, creates)
    rows = [_new_row(work.contents, one, new) for one in taken for new in one.jobs]
    size = statements.INSERT_ROWS
    whole = len(rows) - len(rows) % size
    flat = [tuple(chain.from_iterable(rows[at : at + size])) for at in range(0, whole, size)]
    inserted = statements.INSERT_MANY.many(work.connection, flat) if flat else 0
    if rows[whole:]:
        inserted += statements.INSERT.many(work.connection, rows[whole:])
    expect(len(rows), inserted)
    for one in taken:
        work.tally.moves[one.queue.id, None, QUEUED] += len(one.jobs)
        one.settle(None)


def _new_row(contents: Contents, create: Create, new: NewJob) -> _NewRow:
    return (
        new.uid,
        create.queue.id,
        QUEUED,
        new.priority,
        new.created,
        new.created,
        new.timeout_time,
        new.valid_for,
        contents.seal(new.uid, new.content),
        new.created,
        *(create.by, 0, new.created, create.by, create.by, create.trace),
    )
