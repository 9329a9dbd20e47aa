"""`jobengine rekey`."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from jobengine.cli.bars import Bars
from jobengine.cli.hardening import take_environment
from jobengine.config.environment import read_environment, read_secret
from jobengine.config.settings import Secret
from jobengine.domain.errors import ConfigRefused
from jobengine.store.opening import rekey_database
from jobengine.store.secret_forms import forms

_NAME = "NEW_SECRET"


@click.command(
    epilog="""\b
Examples:
  SECRET=... jobengine rekey --db ./jobs.queuedb
  SECRET_FILE=./old NEW_SECRET_FILE=./new jobengine rekey
  SECRET=... NEW_SECRET=... DATABASE_URL=postgresql+psycopg://... jobengine rekey

\b
Environment:
  SECRET, SECRET_FILE          what opens the database now
  NEW_SECRET, NEW_SECRET_FILE  what is to open it from now on; asked for at a terminal
  DB_PATH, DATABASE_URL        as for `jobengine serve`

\b
Exit codes:
  0  the new SECRET opens the database, and the old one does not; so also the second time
  1  SECRET is missing or wrong, or the database is in use or damaged: see above
  2  a mistake in the environment or the command line
"""
)
@click.option("--db", type=click.Path(path_type=Path), help="The database file; over DB_PATH.")
@click.option("--database-url", help="The PostgreSQL database; over DATABASE_URL.")
def rekey(db: Path | None, database_url: str | None) -> None:
    """Change the SECRET of a database.

    An encrypted file, with its server stopped: a copy under the new SECRET is made beside it,
    checked, and put in its place at one stroke. Cut off at any moment, one of the two SECRETs
    opens the file: the old one, until the command has ended well. Needs room for the copy.

    PostgreSQL, beside servers of this version or without: every content is sealed under the new
    SECRET, in chunks, while either SECRET opens all of them. At the end no server may be there,
    or it exits 1 and says so; then stop them, run it again, which takes seconds, and start them
    with the new SECRET. Cut off, it goes on when it is started again.

    Backups, and databases that were replaced, keep the SECRET that they were made under.
    """
    env = take_environment()
    launch = read_environment(env, database=db, url=database_url)
    new = _new_secret(env)
    if launch.secret.value in (new.value, forms(new.value)[0]):
        raise ConfigRefused("the environment", [f"{_NAME}: expected another than SECRET"])
    with Bars() as bars:
        found = rekey_database(launch.database, launch.secret.value, new.value, bars)
    if found is None:
        click.echo("the database is under the new SECRET already: nothing to do")
    else:
        click.echo(f"{found.jobs:,} jobs in {found.queues:,} queue(s) are under the new SECRET now")


def _new_secret(env: Mapping[str, str]) -> Secret:
    """From the environment, or typed twice at a terminal. Raises SecretMissing."""
    given = env.get(_NAME) or env.get(f"{_NAME}_FILE")
    if given or not sys.stdin.isatty():
        return read_secret(env, _NAME)
    typed = click.prompt("The new SECRET", hide_input=True, confirmation_prompt=True, err=True)
    return Secret(os.fsencode(typed))
