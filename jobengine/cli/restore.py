"""`jobengine restore`."""

from pathlib import Path

import click

from jobengine.cli.bars import Bars
from jobengine.cli.hardening import take_environment
from jobengine.config.environment import read_environment
from jobengine.config.settings import DatabaseUrl
from jobengine.domain.errors import ConfigRefused
from jobengine.store.sqlcipher.copies import restore as put_back


@click.command(
    epilog="""\b
Examples:
  SECRET=... jobengine restore /backups/jobs-2026-01-31.queuedb
  SECRET=... jobengine restore --db ./jobs.queuedb ./jobs.queuedb.replaced-1

\b
Environment:
  SECRET, SECRET_FILE  the SECRET that the backup was made under
  DB_PATH              as for `jobengine serve`: the database to put it in the place of

A PostgreSQL database is restored with its own tools: pg_restore.

\b
Exit codes:
  0  restored
  1  SECRET is missing or wrong, SRC is damaged, or a server has the database open; nothing is
     changed then
  2  a mistake in the environment or the command line
"""
)
@click.argument("src", type=click.Path(path_type=Path))
@click.option("--db", type=click.Path(path_type=Path), help="The database file; over DB_PATH.")
def restore(src: Path, db: Path | None) -> None:
    """Put the backup SRC in the place of the database file. The server must be stopped.

    SRC is checked first, and its copy again. Nothing is asked and nothing is lost: the database
    that was there is kept beside the new one, as DATABASE.replaced-1 (or the next free number),
    until you delete it, and restoring that undoes it. Needs room for one more copy.
    """
    launch = read_environment(take_environment(), database=db)
    if isinstance(launch.database, DatabaseUrl):
        line = f'pg_restore --exit-on-error -d "${{DATABASE_URL/+psycopg/}}" {src}'
        raise ConfigRefused("the environment", [f"DATABASE_URL: restore PostgreSQL with {line}"])
    with Bars() as bars:
        restored = put_back(src.resolve(), launch.secret.value, launch.database, bars)
    found = restored.findings
    click.echo(f"{found.jobs:,} jobs in {found.queues:,} queue(s) restored to {launch.database}")
    if restored.replaced is not None:
        click.echo(f"the database that was there is kept as {restored.replaced}")
