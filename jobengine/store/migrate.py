"""Brings the schema to the newest version, from a checkout or an installed wheel."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

import jobengine
from jobengine.domain.errors import CannotOpen
from jobengine.store.database import Database
from jobengine.store.tables.models import job, metadata, queue

_VERSIONS = "alembic_version"
_ELSEWHERE = (
    "Nothing was changed. JobEngine needs a database of its own: a file, or on PostgreSQL a "
    "schema, as in ?options=-csearch_path%3Djobengine at the end of the URL"
)

# Behind the revision of a database that a move has begun to fill. Whatever opens a database
# looks at its revision, and none knows this one: not even a version that knows no such mark.
_UNFINISHED = " unfinished move"
_SET_REVISION = text("UPDATE alembic_version SET version_num = :revision")


def migrations() -> Path:
    """The folder of migrations: inside the package in a wheel, beside it in a checkout."""
    package = Path(jobengine.__file__).parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def upgrade(database: Database, revision: str = "head", *, filling: bool = False) -> None:
    """Upgrades the schema to the revision, in one transaction, and makes ready for use.

    Raises CannotOpen where the database was made by a newer version, or a move into it has not
    finished, unless it is `filling` it.
    """
    with database.writer.connect() as connection, database.migrations_locked(connection):
        if not (filling and is_filling(connection)):
            _upgrade(database, connection, revision)
        if revision == "head":
            database.prepare(connection)


def _upgrade(database: Database, connection: Connection, revision: str) -> None:
    current = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    refuse_unfinished(database.place, current)
    if current is not None and not knows(current):
        raise CannotOpen(
            f"the database has schema {current}, which this version does not know: "
            "it was written by a newer JobEngine"
        )
    if revision == "head" and current == _head():
        return  # the check of foreign keys after a migration reads every job
    command.upgrade(_config(database, connection), revision)


def is_current(database: Database) -> bool:
    """Whether the schema is the newest, for those who may only look; False where there is none.

    Raises CannotOpen where it is another.
    """
    if database.is_new:
        return False
    with database.readers.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        newest = _head()
    refuse_unfinished(database.place, current)
    if current is None or current == newest:
        return current is not None
    how = (
        "`jobengine serve` brings it there"
        if knows(current)
        else "it was written by a newer JobEngine"
    )
    raise CannotOpen(
        f"{database.place} has schema {current}, and this version reads {newest}: {how}"
    )


def refuse_foreign(connection: Connection, place: str) -> None:
    """Raises CannotOpen where tables by the names of ours are another application's.

    Its revisions may be called as ours are: which tables there are tells the two apart.
    """
    inspector = inspect(connection)
    there = set(inspector.get_table_names())
    heads = MigrationContext.configure(connection).get_current_heads() if there else ()
    ours = {job.name, queue.name} <= there and _has_jobs(inspector.get_columns(job.name))
    if (heads and not ours) or len(heads) > 1:
        raise CannotOpen(
            f"{place} holds another application's tables: its {_VERSIONS} is at "
            f"{', '.join(heads)}, and there are no queues and jobs with it. {_ELSEWHERE}"
        )
    taken = sorted(there & metadata.tables.keys())
    if taken and not heads:
        raise CannotOpen(
            f"{place} holds tables that JobEngine has not made, or whose {_VERSIONS} is gone: "
            f"{', '.join(taken)}. {_ELSEWHERE}"
        )


def _has_jobs(columns: Iterable[Mapping[str, Any]]) -> bool:
    return {job.c.uid.name, job.c.valid_for.name} <= {column["name"] for column in columns}


def begin_filling(connection: Connection) -> None:
    """Marks the database as one that a move fills: until end_filling no server starts on it."""
    connection.execute(_SET_REVISION, {"revision": _head() + _UNFINISHED})


def end_filling(connection: Connection) -> None:
    """Takes the mark away: all of it is there."""
    connection.execute(_SET_REVISION, {"revision": _head()})


def is_filling(connection: Connection) -> bool:
    """Whether a move of this version was begun into the database, and has not finished."""
    current = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    return current == _head() + _UNFINISHED


def refuse_unfinished(place: str, revision: str | None) -> None:
    """Raises CannotOpen where the revision says that a move into the database has not finished."""
    if revision is not None and unfinished([revision]):
        raise CannotOpen(
            f"a move into {place} has not finished: run `jobengine move` again, of the version "
            "that began it, or start with an empty database"
        )


def unfinished(revisions: Iterable[str]) -> list[str]:
    """What is wrong with a database that a move has not filled yet, a sentence each."""
    marked = any(revision.endswith(_UNFINISHED) for revision in revisions)
    return ["a move into it has not finished, so jobs are missing"] if marked else []


def knows(revision: str) -> bool:
    """Whether the schema's revision is of this version, or of one before."""
    return any(script.revision == revision for script in _scripts(migrations()).walk_revisions())


def _head() -> str:
    head = _scripts(migrations()).get_current_head()
    assert head is not None  # noqa: S101  there are migrations
    return head


@cache
def _scripts(folder: Path) -> ScriptDirectory:
    """The migrations, whose files are read once: each start asks twice."""
    return ScriptDirectory(str(folder))


def has_tables(database: Database) -> bool:
    """Whether any migration has been there."""
    if database.is_new:
        return False
    with database.readers.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() is not None


def downgrade(database: Database, revision: str) -> None:
    """Takes the schema back to the revision ("base" for nothing), in one transaction."""
    with database.writer.connect() as connection, database.migrations_locked(connection):
        command.downgrade(_config(database, connection), revision)


def _config(database: Database, connection: Connection) -> Config:
    config = Config()
    config.attributes |= {"database": database, "connection": connection}
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    return config
