"""`jobengine config`: what a config says, and what it would do."""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from jobengine.cli.hardening import take_environment
from jobengine.config.document import read_settings
from jobengine.config.environment import config_path, read_environment
from jobengine.config.settings import Settings
from jobengine.domain.errors import ConfigRefused
from jobengine.engine.queues import times_of, wanted_queues
from jobengine.store.database import Use
from jobengine.store.migrate import is_current
from jobengine.store.opening import open_database
from jobengine.store.tables.queues import Planned, plan

_OPTION = click.option(
    "--config", "path", type=click.Path(path_type=Path), help="The config file; over CONFIG_PATH."
)
_CODES = """\b
Exit codes:
  0  the config is good
  1  SECRET is missing or wrong, or the database cannot be opened
  2  a mistake in the config, the environment or the command line
"""


@click.group()
def config() -> None:
    """Check a config, and see what it would do, before a server obeys it."""


@config.command(epilog="\b\nExample:\n  jobengine config check --config ./config.yml\n\n" + _CODES)
@_OPTION
def check(path: Path | None) -> None:
    """Read a config, and tell every mistake in it."""
    settings = _read(path or config_path(os.environ))
    queues = "no queues" if settings.queues is None else f"{len(settings.queues)} queue(s)"
    click.echo(f"the config is good, with {queues}")


@config.command(
    name="plan",
    epilog="\b\nExample:\n  SECRET=... jobengine config plan --config ./config.yml\n\n" + _CODES,
)
@_OPTION
@click.option("--db", type=click.Path(path_type=Path), help="The database file; over DB_PATH.")
@click.option("--database-url", help="The PostgreSQL database; over DATABASE_URL.")
def show_plan(path: Path | None, db: Path | None, database_url: str | None) -> None:
    """Show which queues a config would add, change and delete, and the jobs lost by it.

    Nothing is changed; a server may be running.
    """
    launch = read_environment(take_environment(), config=path, database=db, url=database_url)
    settings = _read(launch.config_path)
    database = open_database(launch.database, launch.secret.value, Use.LOOK)
    try:
        wanted, times = wanted_queues(settings), times_of(settings)
        if is_current(database):
            with database.readers.connect() as connection:
                planned = plan(connection, wanted, times)
        else:
            planned = Planned(added=[want.name for want in wanted])
    finally:
        database.close()
    _print(planned, settings)


def _read(path: Path) -> Settings:
    try:
        return read_settings(path)
    except FileNotFoundError:
        raise ConfigRefused(f"the config {path}", ["it is not there"]) from None


def _print(planned: Planned, settings: Settings) -> None:
    for name in planned.added:
        click.echo(f"+ {name}")
    for name in planned.taken_over:
        click.echo(f"= {name}: made over HTTP, and from then on the config's")
    for name, differences in planned.changed.items():
        click.echo(f"~ {name}: {_words(differences)}")
    for name, jobs in planned.removed.items():
        kept = " (refused: protect_nonempty)" if jobs and settings.protect_nonempty else ""
        click.echo(f"- {name}: {jobs:,} job(s) would be lost{kept}")
    if settings.queues is None and planned.removed:
        click.echo("refused: the config has no `queues`, and the database has some")
    if not (planned.added or planned.changed or planned.removed or planned.taken_over):
        click.echo("the queues are as the config has them")


def _words(differences: Mapping[str, tuple[object, object]]) -> str:
    names = {
        "readers": "read",
        "writers": "write",
        "window": "job_timeout_minutes",
        "keep": "job_keep_minutes",
        "max_jobs": "max_jobs",
    }
    parts = []
    for column, (now, then) in differences.items():
        if column in ("window", "keep") and isinstance(now, int) and isinstance(then, int):
            now, then = now // 60, then // 60
        parts.append(f"{names[column]} {now} → {then}")
    return ", ".join(parts)
