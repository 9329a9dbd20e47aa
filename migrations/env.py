"""Runs the migrations: for `jobengine serve` on its connection, by hand on one of its own."""

import os

from alembic import context
from sqlalchemy import Connection

from jobengine.config.environment import database_path, read_secret
from jobengine.store.lock import StoreLock
from jobengine.store.models import metadata
from jobengine.store.sqlcipher import SqlcipherFile


def migrate(connection: Connection) -> None:
    """Migrates in one transaction, with foreign keys checked at its end instead of on the way.

    A batch_alter_table makes a table anew and drops the old one, which under
    enforced foreign keys would take the rows that refer to it along.
    """
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101  an open connection has one
    connection.rollback()  # the pragma does nothing inside a transaction
    driver.execute("PRAGMA foreign_keys = OFF")
    try:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            render_as_batch=True,
            transactional_ddl=True,
        )
        with connection.begin(), context.begin_transaction():
            context.run_migrations()
            orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if orphans:
                raise RuntimeError(
                    f"the migration leaves {len(orphans)} rows without what they refer to"
                )
    finally:
        driver.execute("PRAGMA foreign_keys = ON")


def migrate_by_hand() -> None:
    """Opens the database that the environment names, under the lock that a server takes."""
    path, secret = database_path(os.environ), read_secret(os.environ)
    with StoreLock(path):
        database = SqlcipherFile(path, secret.value)
        try:
            with database.writer.connect() as connection:
                migrate(connection)
        finally:
            database.close()


if context.config.attributes.get("connection") is not None:
    migrate(context.config.attributes["connection"])
else:
    migrate_by_hand()
