"""Brings the schema to the newest version, from a checkout or an installed wheel."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

import jobengine
from jobengine.domain.errors import CannotOpen
from jobengine.store.database import Database
from jobengine.store.tables.models import job, metadata, queue

_VERSIONS = "alembic_version"
_ELSEWHERE = (
    "No table was changed. JobEngine needs a database of its own: a file, or on PostgreSQL a "
    "schema, as in ?options=-csearch_path%3Djobengine at the end of the URL"
)


def migrations() -> Path:
    """The folder of migrations: inside the package in a wheel, beside it in a checkout."""
    package = Path(jobengine.__file__).parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def upgrade(database: Database, revision: str = "head") -> None:
    """Upgrades the schema to the revision, in one transaction, and makes ready for use.

    Raises CannotOpen where the database was made by a newer version, or its tables by others.
    """
    with database.writer.connect() as connection, database.migrations_locked(connection):
        _upgrade(database, connection, revision)
        if revision == "head":
            database.prepare(connection)


def _upgrade(database: Database, connection: Connection, revision: str) -> None:
    refuse_foreign(connection, database.place)
    current = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    if current is not None and not knows(current):
        raise CannotOpen(
            f"the database has schema {current}, which this version does not know: "
            "it was written by a newer JobEngine"
        )
    if revision == "head" and current == _scripts(migrations()).get_current_head():
        return  # the check of foreign keys after a migration reads every job
    command.upgrade(_config(database, connection), revision)


def is_current(database: Database) -> bool:
    """Whether the schema is the newest, for those who may only look; False where there is none.

    Raises CannotOpen where it is another.
    """
    if database.is_new:
        return False
    with database.readers.connect() as connection:
        refuse_foreign(connection, database.place)
        current = MigrationContext.configure(connection).get_current_revision()
        newest = _scripts(migrations()).get_current_head()
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


def knows(revision: str) -> bool:
    """Whether the schema's revision is of this version, or of one before."""
    return any(script.revision == revision for script in _scripts(migrations()).walk_revisions())


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
