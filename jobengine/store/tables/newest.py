"""The newest time that a database has seen, by which a start judges its clock."""

from typing import Any

from sqlalchemy import Connection, Select, func, select

from jobengine.store.tables.models import audit_entry, job, statistic
from jobengine.store.tables.statistics import MINUTE

# A row of statistics is of a whole minute, of which the last second may be what was seen.
_LAST_OF_MINUTE = MINUTE - 1


def newest_time(connection: Connection) -> int | None:
    """When the database was last written, as far as one step down an index tells; None if never.

    In seconds since the Unix epoch, by the clock of that time.
    """
    row = connection.execute(_NEWEST).one()
    return max((time for time in row if time is not None), default=None)


def _of_last(column: Any, id_: Any) -> Any:
    newest: Select[Any] = select(column).order_by(id_.desc()).limit(1)
    return newest.scalar_subquery()


_NEWEST = select(
    _of_last(job.c.created, job.c.id),
    _of_last(job.c.last_updated, job.c.id),
    _of_last(audit_entry.c.time, audit_entry.c.id),
    select(func.max(statistic.c.time) + _LAST_OF_MINUTE)
    .where(statistic.c.step == MINUTE)
    .scalar_subquery(),
)
