"""Runs the migrations: for `jobengine serve` on its connection, by hand on one of its own."""

import os

from alembic import context
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from jobengine.config.environment import read_environment
from jobengine.store.database import Database
from jobengine.store.migrate import refuse_unfinished
from jobengine.store.opening import open_database
from jobengine.store.tables.models import metadata


def migrate(database: Database, connection: Connection) -> None:
    """Migrates in one transaction."""
    context.config.attributes["database"] = database  # some look into it
    with database.migrating(connection):
        context.configure(
            connection=connection,
            target_metadata=metadata,
            render_as_batch=True,
            transactional_ddl=True,
        )
        with context.begin_transaction():
            context.run_migrations()


def migrate_by_hand() -> None:
    """Opens the database that the environment names, as a server does."""
    launch = read_environment(os.environ)
    database = open_database(launch.database, launch.secret.value)
    try:
        with database.writer.connect() as connection, database.migrations_locked(connection):
            current = MigrationContext.configure(connection).get_current_revision()
            refuse_unfinished(database.place, current)
            migrate(database, connection)
    finally:
        database.close()


given = context.config.attributes
if "database" in given:
    migrate(given["database"], given["connection"])
else:
    migrate_by_hand()
