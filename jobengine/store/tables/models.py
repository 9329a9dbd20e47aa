"""The tables. Alembic creates them (migrations/); a test holds the two together."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    false,
    literal_column,
    true,
)

from jobengine.domain.durations import BUCKETS
from jobengine.domain.job import State

# On SQLite only a column declared INTEGER can be the rowid.
_Id = BigInteger().with_variant(Integer, "sqlite")

QUEUED, INPROGRESS, COMPLETE, FAILED = 0, 1, 2, 3
CODE_OF = {
    State.QUEUED: QUEUED,
    State.INPROGRESS: INPROGRESS,
    State.COMPLETE: COMPLETE,
    State.FAILED: FAILED,
}
STATE_OF = {code: state for state, code in CODE_OF.items()}

metadata = MetaData(
    naming_convention={
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

queue = Table(
    "queue",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", Text, nullable=False),
    # JSON arrays of service names.
    Column("readers", Text, nullable=False),
    Column("writers", Text, nullable=False),
    # Seconds, so that a sweep over all queues is one statement.
    Column("window", BigInteger, nullable=False),
    Column("keep", BigInteger, nullable=False),
    # Whether the config names it; otherwise it was made over HTTP, with what it has of its
    # own in the place of the config's minutes, in seconds too.
    Column("from_config", Boolean, server_default=true(), nullable=False),
    Column("own_window", BigInteger),
    Column("own_keep", BigInteger),
    # Whether it hands out no jobs.
    Column("paused", Boolean, server_default=false(), nullable=False),
    # How many jobs may be queued or in progress in it; NULL for as many as come.
    Column("max_jobs", BigInteger),
    # When it was removed; its name is free again and its jobs wait to be purged.
    Column("removed", BigInteger),
    # A queue never gets the id of one that is gone.
    sqlite_autoincrement=True,
)
Index(
    "queue_name",
    queue.c.name,
    unique=True,
    sqlite_where=queue.c.removed.is_(None),
    postgresql_where=queue.c.removed.is_(None),
)

# How many jobs a queue holds, by the state that they are in in the table: kept by every
# statement that moves jobs, in its transaction, since to count a million takes too long.
depth = Table(
    "depth",
    metadata,
    Column("queue_id", _Id, ForeignKey("queue.id"), primary_key=True, autoincrement=False),
    Column("queued", BigInteger, nullable=False),
    Column("inprogress", BigInteger, nullable=False),
    Column("complete", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
)

# What was done with the jobs of a queue in a step of time, of 60 seconds or of 3600, that begins
# at `time`; durations in seconds, as sums and by the buckets of `durations`. The depths
# are those at the last write. No foreign key: what comes late of a queue that another server
# has just deleted must not fail a batch.
COUNTS = (
    *("created", "claimed", "completed", "failed", "expired", "deleted"),
    *("wait_seconds", *(f"wait_{bucket}" for bucket in range(BUCKETS))),
    *("run_seconds", *(f"run_{bucket}" for bucket in range(BUCKETS))),
)
# By the number of the state.
DEPTHS = tuple(f"depth_{STATE_OF[code].value}" for code in sorted(STATE_OF))
statistic = Table(
    "statistic",
    metadata,
    Column("queue_id", BigInteger, primary_key=True, autoincrement=False),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("time", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, BigInteger, nullable=False) for name in (*COUNTS, *DEPTHS)),
    Index("statistic_time", "step", "time"),
    sqlite_with_rowid=False,
)

# The keys that contents are sealed with, where the database is not encrypted itself:
# not the keys, but what tells whether a SECRET makes them. While the SECRET is being
# changed, each key is here too, sealed with the other.
master_key = Table(
    "master_key",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("salt", LargeBinary, nullable=False),
    Column("canary", LargeBinary, nullable=False),
    Column("wrapped", LargeBinary),
)

# The keys that services call with, where the config asks for them: their SHA-256.
api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("service", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger),
    Column("revoked", BigInteger),
    Column("last_used", BigInteger),
)

# Who may log in to the dashboard: the argon2id hash of a password, in PHC's text form.
web_user = Table(
    "web_user",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("reveal", Boolean, nullable=False),
    Column("hash", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    CheckConstraint("role IN ('viewer', 'operator', 'admin')", name="role"),
)
# Who is logged in: the SHA-256 of the token that the browser has.
web_session = Table(
    "web_session",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("user_name", Text, ForeignKey("web_user.name"), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
)

# Who administered what. Each entry's digest is over the one before it; the head holds the
# last, so that an entry which is missing at the end shows, too.
audit_entry = Table(
    "audit_entry",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
)
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("entries", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
)

job = Table(
    "job",
    metadata,
    # First in, first out: ids rise in the order of creation, also within a second
    # and across a clock that was set back.
    Column("id", _Id, primary_key=True),
    Column("uid", LargeBinary(16), nullable=False),
    Column("queue_id", BigInteger, ForeignKey("queue.id"), nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("last_updated", BigInteger, nullable=False),
    Column("timeout_time", BigInteger, nullable=False),
    Column("valid_for", BigInteger, nullable=False),
    # The JSON object, byte for byte as it was sent, or that sealed. Last: the columns before it are
    # then read without following its overflow pages.
    Column("content", LargeBinary, nullable=False),
    # When it came into its state; NULL where a version before noted nothing. Behind the content,
    # since SQLite adds a column at the end alone; never NULL in a new row, which would then
    # grow at its claim, and no longer fit where it lies.
    Column("since", BigInteger),
    # Who made it, who claimed it last, when and how often, and who brought it into its state:
    # names of services, of users, or nothing for a window that was over. Noted as `since` is, and
    # with the creator's name where nobody has claimed it, so that a row keeps its size.
    Column("creator", Text),
    Column("claims", Integer),
    Column("claimed", BigInteger),
    Column("claimer", Text),
    Column("changer", Text),
    # The W3C traceparent that its creator sent; NULL where it sent none or nobody traces.
    Column("trace", Text),
    # What happened to it before all that, where a column would have been written over: see
    # `history`. NULL in most jobs.
    Column("earlier", Text),
    CheckConstraint("state BETWEEN 0 AND 3", name="state"),
    CheckConstraint("priority BETWEEN 1 AND 100", name="priority"),
    CheckConstraint("last_updated >= created", name="last_updated"),
)


def in_state(code: int) -> ColumnElement[bool]:
    """The job is in the state; a literal and no parameter.

    SQLite uses a partial index only where it can read off the statement that the
    index's condition holds.
    """
    return job.c.state == literal_column(str(code))


# In the words of the partial index: SQLite does not see that 2 is at least 2.
finished = job.c.state >= literal_column(str(COMPLETE))


Index("job_uid", job.c.uid, unique=True)
# Claims and lists walk this; timeout_time is in it so that a claim passes over
# expired jobs without fetching them.
Index("job_claim", job.c.queue_id, job.c.state, job.c.priority.desc(), job.c.id, job.c.timeout_time)
# What the sweeps walk; partial, since each index costs a page write a job. A job in
# progress is in neither: a heartbeat moves nothing.
Index(
    "job_expire",
    job.c.timeout_time,
    sqlite_where=in_state(QUEUED),
    postgresql_where=in_state(QUEUED),
)
Index(
    "job_finish",
    job.c.queue_id,
    job.c.state,
    job.c.last_updated,
    sqlite_where=finished,
    postgresql_where=finished,
)
