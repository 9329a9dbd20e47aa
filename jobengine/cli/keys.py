"""`jobengine keys`: the keys that services call with."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from jobengine.cli import logs
from jobengine.cli.administer import actor, administer
from jobengine.cli.durations import DURATION_FORM, seconds_in
from jobengine.cli.hardening import take_environment
from jobengine.config.environment import read_environment
from jobengine.config.settings import Launch
from jobengine.domain.clock import Clock, SystemClock
from jobengine.domain.errors import ConfigRefused
from jobengine.domain.queue import NAME_RULE, is_name
from jobengine.engine.administration import CreateKey, KeyShown, ListKeys, RevokeKey

_CODES = """\b
Exit codes:
  0  done
  1  SECRET is missing or wrong, the database cannot be opened, or there is no such key
  2  a mistake in the environment or the command line
"""


def _database_options(command: Callable[..., Any]) -> Callable[..., Any]:
    file = click.option(
        "--db", type=click.Path(path_type=Path), help="The database file; over DB_PATH."
    )
    url = click.option("--database-url", help="The PostgreSQL database; over DATABASE_URL.")
    return file(url(command))


@click.group()
def keys() -> None:
    """Make, list and revoke the keys that services call with.

    A key names the service that calls; `authentication: keys` in the config asks each call
    for one. Works at once, beside a running server or without one.
    """


@keys.command(
    epilog="\b\nExamples:\n  SECRET=... jobengine keys create mailer\n"
    "  SECRET=... jobengine keys create shop --expires 90d\n\n" + _CODES
)
@click.argument("service")
@click.option(
    "--expires", metavar="TIME", help="For how long it is good: 30m, 12h, 90d, 4w; else for ever."
)
@_database_options
@click.pass_obj
def create(
    clock: Clock | None,
    service: str,
    expires: str | None,
    db: Path | None,
    database_url: str | None,
) -> None:
    """Make a key for SERVICE, and print it: it is shown this once, and kept nowhere."""
    if not is_name(service):
        raise ConfigRefused("SERVICE", [f"expected the name of a service: {NAME_RULE}"])
    valid_for = None if expires is None else _seconds(expires)
    (key,) = administer(_launch(db, database_url), CreateKey(actor(), service, valid_for), clock)
    click.echo(key.text)
    until = "until it is revoked" if key.expires is None else f"until {_date(key.expires)}"
    click.echo(f"the key {key.id} of {service}, good {until}", err=True)


@keys.command(name="list", epilog="\b\nExample:\n  SECRET=... jobengine keys list\n\n" + _CODES)
@_database_options
@click.pass_obj
def list_(clock: Clock | None, db: Path | None, database_url: str | None) -> None:
    """List every key: its id, service, state, and when it was made and last used (UTC)."""
    found = administer(_launch(db, database_url), ListKeys(), clock)
    now = (clock or SystemClock()).now()
    rows = [("ID", "SERVICE", "STATE", "MADE", "LAST USED")]
    rows += [
        (key.id, key.service, _state(key, now), _date(key.created), _date(key.last_used))
        for key in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


@keys.command(epilog="\b\nExample:\n  SECRET=... jobengine keys revoke 3f9a1c07b2d4\n\n" + _CODES)
@click.argument("id_", metavar="ID")
@_database_options
@click.pass_obj
def revoke(clock: Clock | None, id_: str, db: Path | None, database_url: str | None) -> None:
    """Revoke the key of an id: from now on no call is made with it."""
    (key,) = administer(_launch(db, database_url), RevokeKey(actor(), id_), clock)
    before = " already" if key.revoked is not None else ""
    click.echo(f"the key {key.id} of {key.service} is revoked{before}", err=True)


def _launch(db: Path | None, database_url: str | None) -> Launch:
    logs.set_up("warning")
    return read_environment(take_environment(), database=db, url=database_url)


def _seconds(text: str) -> int:
    seconds = seconds_in(text)
    if seconds is None:
        raise ConfigRefused("--expires", [f"expected {DURATION_FORM}"])
    return seconds


def _state(key: KeyShown, now: int) -> str:
    if key.revoked is not None:
        return f"revoked {_date(key.revoked)}"
    if key.expires is None:
        return "good"
    return f"{'expired' if key.expires <= now else 'good until'} {_date(key.expires)}"


def _date(seconds: int | None) -> str:
    if seconds is None:
        return "never"
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
