"""Asks for something to be changed in a database, whether or not a server runs on it."""

import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from jobengine.config.settings import Launch
from jobengine.domain.audit import Actor
from jobengine.domain.clock import Clock
from jobengine.domain.errors import CannotOpen, InUse, Unavailable, reason
from jobengine.engine import control
from jobengine.engine.administration import Administration, Offices, Request, ask
from jobengine.engine.keys import Keys
from jobengine.engine.users import Users
from jobengine.store.database import Database, Use
from jobengine.store.failures import cause
from jobengine.store.migrate import is_current, upgrade
from jobengine.store.opening import open_database
from jobengine.store.reads import Reads
from jobengine.store.writing.writer import Writer

T = TypeVar("T")


def administer(launch: Launch, request: Request[T], clock: Clock | None) -> list[T]:
    """Has the request done: by the server that has the database to itself, or right here.

    Only a new key or user makes a database that is not there. Raises CannotOpen and Refused.
    """
    place = launch.database
    if isinstance(place, Path) and not place.exists() and not request.makes_database:
        raise CannotOpen(f"{place} is not there")
    try:
        database = open_database(launch.database, launch.secret.value)
    except InUse as error:
        return _ask_the_server(launch, request, error)
    with _administration(database, clock or database.clock()) as administration:
        return ask(administration.handle, request)


def actor() -> Actor:
    """Who runs the command, for the audit trail."""
    uid = os.getuid()  # and no variable, which anybody can set
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    return Actor(f"{name} by command", "local")


@contextmanager
def _administration(database: Database, clock: Clock) -> Iterator[Administration]:
    with ExitStack() as undo:
        undo.enter_context(closing(database))
        try:
            if not is_current(database):
                upgrade(database)  # of a new one; older servers may be on another
            writer = Writer(database, clock)
            writer.start()
            undo.callback(writer.stop)
            reads = Reads(database)
            keys = Keys(writer, reads, clock, database)
            yield Administration(Offices(keys, Users(writer, reads, clock, database)))
        except (SQLAlchemyError, Unavailable) as error:
            failed = error.__cause__ or error
            raise CannotOpen(f"{database.place} cannot be opened: {cause(failed)}") from error


def _ask_the_server(launch: Launch, request: Request[T], in_use: InUse) -> list[T]:
    with closing(open_database(launch.database, launch.secret.value, Use.LOOK)) as database:
        if database.control is None:
            raise in_use
        try:
            return ask(partial(control.send, *database.control), request)
        except (OSError, EOFError, AuthenticationError) as error:
            raise CannotOpen(
                f"{in_use}, and it cannot be asked over {database.control.path}: {_why(error)}; "
                "stop it first"
            ) from error


def _why(error: Exception) -> str:
    if isinstance(error, AuthenticationError):
        return "it has another SECRET"
    return reason(error) if isinstance(error, OSError) else "it hung up"
