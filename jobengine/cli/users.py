"""`jobengine users`: who may log in to the dashboard."""

import sys
from pathlib import Path

import click

from jobengine.cli.administer import actor, administer
from jobengine.cli.options import database_options, date, launch_with, show_table
from jobengine.domain.clock import Clock
from jobengine.domain.errors import ConfigRefused
from jobengine.domain.user import PASSWORD_RULE, USER_NAME_RULE, Role, is_password, is_user_name
from jobengine.engine.administration import AddUser, ListUsers, RemoveUser, SetPassword, UserShown
from jobengine.engine.passwords import hash_of

# A line that is longer has more than a password may have, whatever its end.
_LINE_MAX = 2000

_CODES = """\b
Exit codes:
  0  done
  1  SECRET is missing or wrong, the database cannot be opened, there is no such user, or
     there is one already
  2  a mistake in the environment, the command line or the password
"""

_password_option = click.option(
    "--password-stdin",
    is_flag=True,
    help="Take the first line of stdin for the password, instead of asking for it.",
)


@click.group()
def users() -> None:
    """Add, list and remove those who may log in to the dashboard.

    Works at once, beside a running server or without one. A user who is removed, or gets
    another password, is logged out everywhere.
    """


@users.command(
    epilog="\b\nExamples:\n  SECRET=... jobengine users add ann --role admin\n"
    "  SECRET=... jobengine users add bob --role viewer --reveal\n"
    "  SECRET=... jobengine users add ci --role viewer --password-stdin < password.txt\n\n" + _CODES
)
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    required=True,
    help="What they may do: see queues; also act on jobs; also administer.",
)
@click.option(
    "--reveal", is_flag=True, help="Let a viewer have contents shown, which the trail notes."
)
@_password_option
@database_options
@click.pass_obj
def add(
    clock: Clock | None,
    name: str,
    role: str,
    reveal: bool,
    password_stdin: bool,
    db: Path | None,
    database_url: str | None,
) -> None:
    """Add the user NAME, whose password is asked for twice.

    A viewer sees queues and counts, and contents of jobs only with --reveal, one by one. An
    operator also sees contents and acts on jobs. An admin also administers queues, and sees
    keys, users and the audit trail.
    """
    if not is_user_name(name):
        raise ConfigRefused("NAME", [f"expected {USER_NAME_RULE}"])
    if reveal and role != Role.VIEWER.value:
        raise ConfigRefused("--reveal", ["expected with viewers only: others see contents anyway"])
    launch = launch_with(db, database_url)
    hash_ = hash_of(_password(from_stdin=password_stdin))
    (user,) = administer(launch, AddUser(actor(), name, Role(role), reveal, hash_), clock)
    click.echo(f"{user.name} may log in, as {_role(user)}", err=True)


@users.command(name="list", epilog="\b\nExample:\n  SECRET=... jobengine users list\n\n" + _CODES)
@database_options
@click.pass_obj
def list_(clock: Clock | None, db: Path | None, database_url: str | None) -> None:
    """List every user: the name, the role, and when they were added (UTC)."""
    found = administer(launch_with(db, database_url), ListUsers(), clock)
    rows = [(user.name, _role(user), date(user.created)) for user in found]
    show_table([("NAME", "ROLE", "ADDED"), *rows])


@users.command(epilog="\b\nExample:\n  SECRET=... jobengine users remove bob\n\n" + _CODES)
@click.argument("name")
@database_options
@click.pass_obj
def remove(clock: Clock | None, name: str, db: Path | None, database_url: str | None) -> None:
    """Remove the user NAME, who is logged out at once."""
    (user,) = administer(launch_with(db, database_url), RemoveUser(actor(), name), clock)
    click.echo(f"{user.name} is removed, and logged out", err=True)


@users.command(epilog="\b\nExample:\n  SECRET=... jobengine users passwd ann\n\n" + _CODES)
@click.argument("name")
@_password_option
@database_options
@click.pass_obj
def passwd(
    clock: Clock | None,
    name: str,
    password_stdin: bool,
    db: Path | None,
    database_url: str | None,
) -> None:
    """Give the user NAME another password, asked for twice; they are logged out at once."""
    launch = launch_with(db, database_url)
    hash_ = hash_of(_password(from_stdin=password_stdin))
    (user,) = administer(launch, SetPassword(actor(), name, hash_), clock)
    click.echo(f"{user.name} has another password, and is logged out", err=True)


def _password(*, from_stdin: bool) -> str:
    """The password, from stdin or the terminal. Raises ConfigRefused."""
    if from_stdin:
        password = _first_line()
    elif sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        raise ConfigRefused("the password", ["no terminal to ask on: use --password-stdin"])
    if not is_password(password):
        raise ConfigRefused("the password", [f"expected {PASSWORD_RULE}"])
    return password


def _first_line() -> str:
    line = sys.stdin.buffer.readline(_LINE_MAX)
    try:
        return line.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        pass  # not in the handler: what was raised shows the password
    raise ConfigRefused("the password", ["expected UTF-8"])


def _role(user: UserShown) -> str:
    return f"{user.role.value} with reveal" if user.reveal else user.role.value
