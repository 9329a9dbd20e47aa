"""`jobengine keys`: the keys that services call with."""

from pathlib import Path

import click

from jobengine.cli.administer import actor, administer
from jobengine.cli.durations import DURATION_FORM, seconds_in
from jobengine.cli.options import database_options, date, launch_with, show_table
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
@database_options
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
    (key,) = administer(
        launch_with(db, database_url), CreateKey(actor(), service, valid_for), clock
    )
    click.echo(key.text)
    until = "until it is revoked" if key.expires is None else f"until {date(key.expires)}"
    click.echo(f"the key {key.id} of {service}, good {until}", err=True)


@keys.command(name="list", epilog="\b\nExample:\n  SECRET=... jobengine keys list\n\n" + _CODES)
@database_options
@click.pass_obj
def list_(clock: Clock | None, db: Path | None, database_url: str | None) -> None:
    """List every key: its id, service, state, and when it was made and last used (UTC)."""
    found = administer(launch_with(db, database_url), ListKeys(), clock)
    now = (clock or SystemClock()).now()
    rows = [("ID", "SERVICE", "STATE", "MADE", "LAST USED")]
    rows += [
        (key.id, key.service, _state(key, now), date(key.created), date(key.last_used))
        for key in found
    ]
    show_table(rows)


@keys.command(epilog="\b\nExample:\n  SECRET=... jobengine keys revoke 3f9a1c07b2d4\n\n" + _CODES)
@click.argument("id_", metavar="ID")
@database_options
@click.pass_obj
def revoke(clock: Clock | None, id_: str, db: Path | None, database_url: str | None) -> None:
    """Revoke the key of an id: from now on no call is made with it."""
    (key,) = administer(launch_with(db, database_url), RevokeKey(actor(), id_), clock)
    before = " already" if key.revoked is not None else ""
    click.echo(f"the key {key.id} of {key.service} is revoked{before}", err=True)


def _seconds(text: str) -> int:
    seconds = seconds_in(text)
    if seconds is None:
        raise ConfigRefused("--expires", [f"expected {DURATION_FORM}"])
    return seconds


def _state(key: KeyShown, now: int) -> str:
    if key.revoked is not None:
        return f"revoked {date(key.revoked)}"
    if key.expires is None:
        return "good"
    return f"{'expired' if key.expires <= now else 'good until'} {date(key.expires)}"
