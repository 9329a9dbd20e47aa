"""`jobengine move`."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import click
from sqlalchemy.exc import SQLAlchemyError

from jobengine.cli.hardening import take_environment
from jobengine.config.environment import database_place, read_environment
from jobengine.config.settings import URL_FORM, DatabaseUrl
from jobengine.domain.errors import CannotOpen, ConfigRefused, ContentDamaged, Unavailable
from jobengine.store.database import Database, Use
from jobengine.store.failures import cause
from jobengine.store.migrate import has_tables, is_current, upgrade
from jobengine.store.move import Move
from jobengine.store.opening import is_read_only, open_database


@click.command(
    epilog="""\b
Examples:
  SECRET=... jobengine move --db ./jobs.queuedb --to postgresql+psycopg://user@host/jobs
  SECRET=... DATABASE_URL=postgresql+psycopg://... jobengine move --to ./jobs.queuedb

\b
Environment:
  SECRET, SECRET_FILE, DB_PATH, DATABASE_URL  as for `jobengine serve`: where to move from

A password in a URL shows in `ps`; PGPASSWORD and ~/.pgpass do not.

\b
Exit codes:
  0  moved, and compared
  1  SECRET is missing or wrong, a database cannot be opened or is in use, or they differ
  2  a mistake in the environment or the command line
"""
)
@click.option(
    "--db", type=click.Path(path_type=Path), help="The database file to move from; over DB_PATH."
)
@click.option("--database-url", help="The PostgreSQL database to move from; over DATABASE_URL.")
@click.option(
    "--to",
    required=True,
    metavar="DATABASE_URL|FILE",
    help="Where to move to: an empty database, or one that a move was begun to.",
)
def move(db: Path | None, database_url: str | None, to: str) -> None:
    """Copy all queues and jobs from one database to another, and compare the two.

    From an encrypted file to PostgreSQL or back, under the same SECRET. No server may run on
    either. What is moved stays where it was; a move that was cut off goes on where it ended
    when it is started again, and until then no server starts on its target.
    """
    launch = read_environment(take_environment(), database=db, url=database_url)
    place = _place(to)
    if place == launch.database:
        raise ConfigRefused("--to", ["expected another database than the one to move from"])
    try:
        with ExitStack() as open_:
            source = _open(launch.database, launch.secret.value, open_, there=True)
            target = _open(place, launch.secret.value, open_)
            moving = Move(source, target)
            _show("copying", moving.jobs, moving.copy())
            _show("comparing", moving.jobs, moving.verify())
    except ContentDamaged as error:
        raise CannotOpen(
            f"{error}: delete the job, or give it a new content, and start the move again"
        ) from error
    except (SQLAlchemyError, Unavailable) as error:
        raise CannotOpen(
            f"the move was cut off, and goes on when it is started again: {cause(error)}"
        ) from error
    click.echo(f"{moving.jobs:,} jobs moved to {target.place}; SHA-256 {moving.checksum}")


def _place(to: str) -> Path | DatabaseUrl:
    if to and "://" not in to:
        return Path(to).resolve()
    mistakes: list[str] = []
    place = database_place({"DATABASE_URL": to or "none"}, mistakes)
    if mistakes:
        raise ConfigRefused("--to", [f"expected {URL_FORM}, or a file"])
    return place


def _open(
    place: Path | DatabaseUrl, secret: bytes, open_: ExitStack, *, there: bool = False
) -> Database:
    """Opens it on the newest schema; `there` refuses one that JobEngine has never used.

    What is there need only be read, and nobody else writes to a medium that is read-only.
    """
    if there and isinstance(place, Path) and not place.exists():
        raise CannotOpen(f"{place} is not there: nothing to move")
    use = Use.LOOK if there and is_read_only(place) else Use.ALONE
    database = open_database(place, secret, use)
    open_.enter_context(closing(database))
    if there and not has_tables(database):
        raise CannotOpen(f"{database.place} holds no queues and jobs: nothing to move")
    if use is Use.ALONE:
        upgrade(database, filling=not there)
    else:
        is_current(database)  # or it is refused: its schema cannot be brought up to date
    return database


def _show(label: str, jobs: int, chunks: Iterator[int]) -> None:
    with click.progressbar(length=jobs, label=label, file=sys.stderr) as bar:
        for done in chunks:
            bar.update(done)
