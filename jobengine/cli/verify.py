"""`jobengine verify`."""

from pathlib import Path

import click

from jobengine.cli.bars import Bars
from jobengine.cli.hardening import take_environment
from jobengine.config.environment import read_environment
from jobengine.store.opening import check_database


@click.command(
    epilog="""\b
Examples:
  SECRET=... jobengine verify
  SECRET=... jobengine verify --db /backups/jobs-2026-01-31.queuedb
  SECRET=... DATABASE_URL=postgresql+psycopg://... jobengine verify

\b
Environment:
  SECRET, SECRET_FILE, DB_PATH, DATABASE_URL  as for `jobengine serve`: what to check

\b
Exit codes:
  0  nothing is damaged
  1  what is damaged is told; or SECRET is missing or wrong, or the database cannot be opened
  2  a mistake in the environment or the command line
"""
)
@click.option(
    "--db", type=click.Path(path_type=Path), help="The database file, or a backup; over DB_PATH."
)
@click.option("--database-url", help="The PostgreSQL database; over DATABASE_URL.")
def verify(db: Path | None, database_url: str | None) -> None:
    """Check a database or a backup from end to end, while a server runs or not.

    Of an encrypted file: that every page is as it was written, by its HMAC; that the pages make
    a sound database; and that the log beside it, if any, does not break off before its end. On
    PostgreSQL: that every job's content opens with the SECRET, and so is as it was sealed, and
    that no job is without its queue. Nothing is changed.
    """
    launch = read_environment(take_environment(), database=db, url=database_url)
    with Bars() as bars:
        found = check_database(launch.database, launch.secret.value, bars)
    found.refuse(f"{len(found.damage):,} thing(s) are wrong")
    click.echo(f"{found.jobs:,} jobs in {found.queues:,} queue(s): nothing is damaged")
