"""Connections to PostgreSQL: where it is, and how each kind of connection is set up."""

from typing import Any

import psycopg
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool, QueuePool

from jobengine.config.settings import URL_FORM, DatabaseUrl
from jobengine.domain.errors import ConfigRefused

_READERS = 8
# A server that is gone is noticed in seconds, on an idle connection and on one in use.
_NETWORK = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "jobengine",
    "client_encoding": "utf8",  # whatever the URL, the environment or the database says
}
# The database notices, too, when a server's machine is gone, and lets go of its locks.
_SESSION_SETTINGS = (
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = 15000",
)
# A writer that hangs lets go of its locks, and one that waits for them gives up, in time
# for its callers.
_LOCK_TIMEOUT = "SET lock_timeout = '10s'"
_WRITER_SETTINGS = (
    *_SESSION_SETTINGS,
    _LOCK_TIMEOUT,
    "SET idle_in_transaction_session_timeout = '30s'",
    # What is acknowledged is on disk, whatever the database's default is or will be.
    "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
    " WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)",
)
# A list reads one snapshot for a chunk, as it does in the file.
_READER_SETTINGS = (
    *_SESSION_SETTINGS,
    _LOCK_TIMEOUT,
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
)


class Sessions:
    """The connection that writes, those that cannot, and others as they are wanted."""

    def __init__(self, url: DatabaseUrl) -> None:
        """Connects to nothing yet. Raises ConfigRefused where the URL cannot be read."""
        self._url = _parse(url)
        self.place = _place(self._url)
        self.writer = self._engine(
            _WRITER_SETTINGS, poolclass=NullPool, isolation_level="READ COMMITTED"
        )
        self.readers = self._engine(
            _READER_SETTINGS,
            poolclass=QueuePool,
            pool_size=_READERS,
            max_overflow=0,
            pool_pre_ping=True,
        )

    def connect(self) -> "psycopg.Connection[Any]":
        """A connection of its own, outside the pools, on which each statement commits."""
        args, options = self.writer.dialect.create_connect_args(self._url)
        connection = psycopg.connect(*args, autocommit=True, **{**options, **_NETWORK})
        for setting in _SESSION_SETTINGS:
            connection.execute(setting)
        return connection

    def close(self) -> None:
        """Closes those that are not in use."""
        self.readers.dispose()
        self.writer.dispose()

    def _engine(self, settings: tuple[str, ...], **options: Any) -> Engine:
        engine = create_engine(
            self._url,
            paramstyle="format",  # Prepared takes parameters by their places
            connect_args=_NETWORK,
            hide_parameters=True,  # an error must not show a payload
            **options,
        )

        @event.listens_for(engine, "connect")
        def _set(connection: Any, _record: object) -> None:
            for setting in settings:
                connection.execute(setting)
            connection.commit()

        return engine


def _parse(url: DatabaseUrl) -> URL:
    try:
        parsed = make_url(url.value).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        parsed = None  # not in the handler: what was raised shows the password
    # An @ in the host is the end of a password that has one, too.
    if parsed is None or "@" in (parsed.host or ""):
        mistake = f"expected {URL_FORM}, with @ : / in a password written as %40 %3A %2F"
        raise ConfigRefused("the URL of the database", [mistake])
    return parsed


def _place(url: URL) -> str:
    """Where the database is, without anything secret."""
    hosts = url.host or ",".join(url.normalized_query.get("host", ())) or "the local socket"
    port = "" if url.port is None else f":{url.port}"
    return f"PostgreSQL at {hosts}{port}, database {url.database or url.username}"
