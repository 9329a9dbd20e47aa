"""`jobengine audit`: who administered what."""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click

from jobengine.cli.durations import DURATION_FORM, seconds_in
from jobengine.cli.hardening import take_environment
from jobengine.config.environment import read_environment
from jobengine.domain.audit import Entry
from jobengine.domain.clock import Clock, SystemClock
from jobengine.domain.errors import CannotOpen, ConfigRefused
from jobengine.engine.audit import Audit
from jobengine.store.database import Database, Use
from jobengine.store.migrate import is_current
from jobengine.store.opening import open_database
from jobengine.store.reads import Reads
from jobengine.store.tables import audit as store

_PAGE = 500
_EXIT_TAMPERED = 1


@click.command(
    epilog="""\b
Examples:
  SECRET=... jobengine audit
  SECRET=... jobengine audit --since 7d
  SECRET=... jobengine audit --since 2026-11-01 --verify

\b
Exit codes:
  0  shown, and with --verify found whole
  1  SECRET is missing or wrong, the database cannot be opened, or the trail is not whole
  2  a mistake in the environment or the command line
"""
)
@click.option(
    "--since", metavar="TIME", help="From when: a date, 2026-11-01 (UTC), or how long ago, 7d."
)
@click.option(
    "--verify", is_flag=True, help="Check the chain of digests from its beginning to its end."
)
@click.option("--db", type=click.Path(path_type=Path), help="The database file; over DB_PATH.")
@click.option("--database-url", help="The PostgreSQL database; over DATABASE_URL.")
@click.pass_obj
def audit(
    clock: Clock | None,
    since: str | None,
    verify: bool,
    db: Path | None,
    database_url: str | None,
) -> None:
    """Show who administered what: queues, keys, users, and jobs on the dashboard.

    The newest entry comes first; times are UTC. A server may be running.
    """
    begin = 0 if since is None else _since(since, (clock or SystemClock()).now())
    launch = read_environment(take_environment(), database=db, url=database_url)
    with closing(open_database(launch.database, launch.secret.value, Use.LOOK)) as database:
        if not is_current(database):
            raise CannotOpen(f"{database.place} holds no queues and jobs, and so no trail")
        for entry in _entries(database, begin):
            click.echo(_line(entry))
        if verify:
            _verify(database)


def _entries(database: Database, since: int) -> Iterator[Entry]:
    trail, before = Audit(Reads(database)), None
    while page := trail.entries(since, before, _PAGE):
        yield from page
        before = page[-1].id


def _verify(database: Database) -> None:
    with database.readers.connect() as connection:
        mistakes = list(store.mistakes(connection, database.contents))
    for mistake in mistakes:
        click.echo(f"jobengine: {mistake}", err=True)
    if mistakes:
        sys.exit(_EXIT_TAMPERED)
    click.echo("the trail is whole", err=True)


def _line(entry: Entry) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry.time))
    who = f"{entry.actor} ({entry.address})" if entry.address else entry.actor
    detail = bytes(entry.detail).decode()
    end = "" if detail == "{}" else f"  {detail}"
    return f"{entry.id:>6}  {when}  {entry.action:<14}  {entry.subject}  by {who}{end}"


def _since(text: str, now: int) -> int:
    ago = seconds_in(text)
    if ago is not None:
        return max(0, now - ago)
    if re.fullmatch(r"[0-9T: +Z.-]+", text):
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    raise ConfigRefused("--since", [f"expected a date such as 2026-11-01, or {DURATION_FORM}"])
