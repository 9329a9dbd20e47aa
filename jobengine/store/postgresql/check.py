"""The check of a database of sealed contents: each is opened, and so authenticated."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.exc import SQLAlchemyError

from jobengine.domain.errors import CannotOpen, StoreFailed
from jobengine.store.database import Database
from jobengine.store.failures import or_bare, original
from jobengine.store.findings import Findings, Tell
from jobengine.store.migrate import has_tables, unfinished
from jobengine.store.tables.models import job, queue
from jobengine.store.tables.rows import BARE_COLUMNS, BRIEF_COLUMNS, CONTENT_OF

_WHAT = "checking"
_CHUNK_JOBS = 1000

_JOBS = select(func.count()).select_from(job)
# No more of them than there was at first: a database of a version before can be checked, too.
_FOLLOWING, _BARE_FOLLOWING = (
    select(job.c.id, job.c.uid, columns[-1])
    .where(job.c.id > bindparam("after"))
    .order_by(job.c.id)
    .limit(bindparam("limit"))
    for columns in (BRIEF_COLUMNS, BARE_COLUMNS)
)
_QUEUES = select(func.count()).select_from(queue)
_ORPHANS = (
    select(job.c.id, job.c.queue_id)
    .outerjoin(queue, queue.c.id == job.c.queue_id)
    .where(queue.c.id.is_(None))
)
_REVISIONS = "SELECT version_num FROM alembic_version"
# What PostgreSQL itself knows to be broken: a restore that was cut off leaves such.
_BROKEN = """
SELECT 'the constraint ' || conname || ' is not validated' FROM pg_constraint
WHERE NOT convalidated AND conrelid IN ('job'::regclass, 'queue'::regclass)
UNION ALL
SELECT 'the index ' || indexrelid::regclass || ' is not valid' FROM pg_index
WHERE NOT indisvalid AND indrelid IN ('job'::regclass, 'queue'::regclass)
"""


def check_sealed(database: Database, tell: Tell) -> Findings:
    """What is in the database and what is wrong with it; changes nothing, beside servers or not.

    The keys were checked when it was opened. Raises CannotOpen where it has no tables.
    """
    if not has_tables(database):
        raise CannotOpen(f"{database.place} holds no queues and jobs")
    found = Findings()
    try:
        with database.readers.connect() as connection:
            found.queues = connection.execute(_QUEUES).scalar_one()
            there = connection.execute(_JOBS).scalar_one()
            found.damage += connection.exec_driver_sql(_BROKEN).scalars()
            found.damage += unfinished(connection.exec_driver_sql(_REVISIONS).scalars())
            found.damage += (
                f"the job of id {row.id} refers to a queue {row.queue_id} that is not there"
                for row in connection.execute(_ORPHANS)
            )
        _check_contents(database, found, max(there, 1), tell)
    except SQLAlchemyError as error:
        found.damage.append(str(original(error)).strip())
    return found


def _check_contents(database: Database, found: Findings, there: int, tell: Tell) -> None:
    """Opens every content, and counts them."""
    after = 0
    while True:
        with database.readers.connect() as connection:
            rows = _following(connection, after)
            for row in rows:
                _check_content(database, connection, row, found)
        found.jobs += len(rows)
        tell(_WHAT, min(found.jobs, there), there)
        if len(rows) < _CHUNK_JOBS:
            return
        after = rows[-1].id


def _following(connection: Connection, after: int) -> Sequence[Any]:
    binds = {"after": after, "limit": _CHUNK_JOBS}
    return or_bare(
        connection,
        lambda: connection.execute(_FOLLOWING, binds).all(),
        lambda: connection.execute(_BARE_FOLLOWING, binds).all(),
    )


def _check_content(database: Database, connection: Connection, row: Any, found: Findings) -> None:
    content = row.content
    if content is None:
        content = or_bare(
            connection,
            lambda: connection.execute(CONTENT_OF, {"id": row.id}).scalar_one_or_none(),
            lambda: b"",  # which does not open
        )
        if content is None:
            return  # deleted meanwhile, where a read does not see one state throughout
    try:
        database.contents.open(row.uid, content)
    except StoreFailed as error:
        found.damage.append(str(error))
