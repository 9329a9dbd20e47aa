"""What a PostgreSQL must be to hold jobs; each lack of it is told before anything is changed."""

from collections.abc import Callable
from typing import Any, LiteralString

import psycopg

from jobengine.domain.errors import CannotOpen
from jobengine.store.tables.models import metadata

_OLDEST_VERSION = 13
_ENCODING = "UTF8"
_VERSIONS = "alembic_version"
# How often the sessions are compared: a pooler that is used by others, too, may give one of them
# the same session twice.
_ROUNDS = 2
# What the search_path shows of another schema than the one that tables would be made in.
_ELSEWHERE = """
SELECT c.relname, n.nspname, current_schema()
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = ANY(%s) AND pg_table_is_visible(c.oid) AND n.nspname <> current_schema()
ORDER BY c.relname LIMIT 1
"""
_MAY_CREATE = """
SELECT to_regclass('alembic_version') IS NOT NULL
    OR has_schema_privilege(current_schema(), 'CREATE'), current_schema()
"""


def check_requirements(
    connection: "psycopg.Connection[Any]",
    connect: "Callable[[], psycopg.Connection[Any]]",
    place: str,
    *,
    writes: bool,
) -> None:
    """Raises CannotOpen where the PostgreSQL cannot serve, or cannot be written if it `writes`."""
    _check_server(connection, place)
    _check_sessions(connection, connect, place)
    if writes:
        _check_writable(connection, place)


def check_schema(connection: "psycopg.Connection[Any]", place: str, *, writes: bool) -> None:
    """Raises CannotOpen where the schema cannot be worked in."""
    rows = connection.execute(_ELSEWHERE, ([_VERSIONS, *metadata.tables],)).fetchall()
    for table, schema, own in rows:
        raise CannotOpen(
            f"{place}: search_path begins with the schema {own}, but its table {table} is the one "
            f"of the schema {schema}: expected a search_path of one schema, as in "
            f"?options=-csearch_path%3D{own} at the end of the URL"
        )
    may, schema = _row(connection, _MAY_CREATE)
    if writes and not may:
        user = connection.info.user
        raise CannotOpen(
            f"{place}: the user {user} may not create tables in the schema {schema}: GRANT CREATE "
            f'ON SCHEMA "{schema}" TO "{user}", or make a database whose owner it is'
        )


def _check_server(connection: "psycopg.Connection[Any]", place: str) -> None:
    version = connection.info.server_version // 10_000
    if version < _OLDEST_VERSION:
        raise CannotOpen(f"{place} is PostgreSQL {version}: expected {_OLDEST_VERSION} or newer")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != _ENCODING:
        raise CannotOpen(
            f"{place} has the encoding {encoding}: expected {_ENCODING}, as of CREATE DATABASE … "
            f"ENCODING '{_ENCODING}' TEMPLATE template0"
        )


def _check_sessions(
    connection: "psycopg.Connection[Any]",
    connect: "Callable[[], psycopg.Connection[Any]]",
    place: str,
) -> None:
    with connect() as other:
        if _share_sessions(connection, other):
            raise CannotOpen(
                f"{place} is behind a pooler that gives each transaction another session, as "
                "PgBouncer does with pool_mode = transaction, but locks and LISTEN belong to a "
                "session: expected pool_mode = session, or the address of PostgreSQL itself"
            )


def _share_sessions(one: "psycopg.Connection[Any]", other: "psycopg.Connection[Any]") -> bool:
    """Whether the two connections, used in turn, meet the same session, or one meets several."""
    sessions = {_session(one)}
    for _ in range(_ROUNDS):
        with other.transaction():
            # Before the next question, for which the pooler may have no other session.
            if _session(other) in sessions:
                return True
            sessions.add(_session(one))
        sessions |= {_session(one), _session(one)}
        if len(sessions) > 1:
            return True
    return False


def _session(connection: "psycopg.Connection[Any]") -> int:
    # Never prepared: a pooler may not know of it in the next session.
    row = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    return -1 if row is None else int(row[0])


def _check_writable(connection: "psycopg.Connection[Any]", place: str) -> None:
    standby, read_only = _row(
        connection, "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"
    )
    if standby:
        raise CannotOpen(
            f"{place} is a standby, which cannot be written: expected the primary; a URL with "
            "?host=a&host=b&target_session_attrs=read-write finds it among several"
        )
    if read_only:
        raise CannotOpen(
            f"{place} is read-only: default_transaction_read_only is on, for the database, for "
            "the user or in the URL"
        )


def _row(connection: "psycopg.Connection[Any]", statement: LiteralString) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(statement).fetchone()
    assert row is not None  # noqa: S101  such a SELECT gives one row
    return row
