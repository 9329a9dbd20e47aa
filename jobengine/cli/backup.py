"""`jobengine backup`."""

import stat
from pathlib import Path

import click

from jobengine.cli.bars import Bars
from jobengine.cli.hardening import take_environment
from jobengine.config.environment import read_environment
from jobengine.config.settings import DatabaseUrl
from jobengine.domain.errors import ConfigRefused, reason
from jobengine.store.sqlcipher.copies import back_up

# What --force does not write over: a link may lead to an older backup.
_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symbolic link"}


@click.command(
    epilog="""\b
Examples:
  SECRET=... jobengine backup /backups/jobs-$(date +%F).queuedb
  SECRET_FILE=/run/secrets/jobengine jobengine backup --db ./jobs.queuedb --force ./latest.queuedb

\b
Environment:
  SECRET, SECRET_FILE, DB_PATH  as for `jobengine serve`: what to back up

A PostgreSQL database is backed up with its own tools: pg_dump -Fc. The contents are sealed in
it, and stay so in the dump.

\b
Exit codes:
  0  backed up, and checked
  1  SECRET is missing or wrong, the database cannot be read or is damaged, or DEST not written
  2  a mistake in the environment or the command line, or DEST is there already
"""
)
@click.argument("dest", type=click.Path(path_type=Path))
@click.option("--db", type=click.Path(path_type=Path), help="The database file; over DB_PATH.")
@click.option("--force", is_flag=True, help="Write over DEST, once the new backup is complete.")
def backup(dest: Path, db: Path | None, *, force: bool) -> None:
    """Copy the database file to DEST, while its server runs or not.

    The copy is what was committed at one moment, encrypted under the same SECRET, one file that
    needs no other, and it is checked before it gets its name. What is cut off leaves
    DEST.partial, which the next backup writes over. The server goes on serving; its -wal grows
    until the copy is made.
    """
    launch = read_environment(take_environment(), database=db)
    if isinstance(launch.database, DatabaseUrl):
        line = f'pg_dump -Fc -f {dest} -d "${{DATABASE_URL/+psycopg/}}"'
        raise ConfigRefused("the environment", [f"DATABASE_URL: back PostgreSQL up with {line}"])
    _look_at(dest, force=force)
    with Bars() as bars:
        found = back_up(launch.database, launch.secret.value, dest.absolute(), bars)
    click.echo(f"{found.jobs:,} jobs in {found.queues:,} queue(s) backed up to {dest}, and checked")


def _look_at(dest: Path, *, force: bool) -> None:
    """Raises ConfigRefused where a backup must not be written there."""
    try:
        mode = dest.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigRefused("DEST", [f"{dest} cannot be looked at: {reason(error)}"]) from error
    if not stat.S_ISREG(mode):
        what = _KINDS.get(stat.S_IFMT(mode), "a device, a pipe or a socket")
        raise ConfigRefused("DEST", [f"{dest} is {what}: expected a regular file"])
    if not force:
        raise ConfigRefused("DEST", [f"{dest} is there already: expected another, or --force"])
