"""What the commands that administer a database have in common."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from jobengine.cli.hardening import take_environment
from jobengine.config.environment import read_environment
from jobengine.config.settings import Launch


def database_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --db and --database-url."""
    file = click.option(
        "--db", type=click.Path(path_type=Path), help="The database file; over DB_PATH."
    )
    url = click.option("--database-url", help="The PostgreSQL database; over DATABASE_URL.")
    return file(url(command))


def launch_with(db: Path | None, database_url: str | None) -> Launch:
    """The database that the options or the environment name. Raises CannotStart."""
    return read_environment(take_environment(), database=db, url=database_url)


def show_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows, the first of which are the headings, in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def date(seconds: int | None) -> str:
    """A time since the Unix epoch, in UTC to the minute; `never` for none."""
    if seconds is None:
        return "never"
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
