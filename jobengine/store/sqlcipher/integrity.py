"""The check of an encrypted file: every page's HMAC, and that the pages make a database."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2 as sqlcipher

from jobengine.store.findings import Findings, Tell
from jobengine.store.migrate import unfinished
from jobengine.store.sqlcipher.cipher import CipherFile
from jobengine.store.sqlcipher.wal import damage_of_log, pages_in_log

_WHAT = "checking"
_STEPS = 4
# What SQLCipher raises for a damaged page is any of these.
_FAILURES = (sqlcipher.Error, MemoryError)
_PAGE = re.compile(r"\bpage (\d+)")
_TABLES = ("job", "queue")


def check(file: CipherFile, tell: Tell) -> Findings:
    """What is in the file and what is wrong with it; changes nothing, beside a server or not."""
    found = Findings(damage=damage_of_log(file.path, tell))
    try:
        with file.snapshot() as connection:
            _check(file.path, connection, found, tell)
    except _FAILURES as error:
        found.damage.append(f"{file.path}: {error or 'a page cannot be read'}")
    return found


def _check(path: Path, connection: Any, found: Findings, tell: Tell) -> None:
    parts: list[Callable[[Any], Iterable[str]]] = [
        lambda connection: _pages(path, connection),
        _structure,
        _references,
    ]
    for step, part in enumerate(parts):
        tell(_WHAT, step, _STEPS)
        found.damage += part(connection)
        if found.damage:
            return  # what follows would meet the same, and say it less clearly
    tell(_WHAT, _STEPS - 1, _STEPS)
    found.jobs, found.queues = counts(connection)
    found.damage += unfinished(revisions(connection))
    tell(_WHAT, _STEPS, _STEPS)


def counts(connection: Any) -> tuple[int, int]:
    """How many jobs and queues there are. Raises sqlcipher's errors, also for no JobEngine's."""
    jobs, queues = (
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608  a constant
        for table in _TABLES
    )
    return jobs, queues


def revisions(connection: Any) -> list[str]:
    """The revision of its schema, or what stands there instead. Raises as `counts` does."""
    return [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]


def _pages(path: Path, connection: Any) -> list[str]:
    """The pages that are not as they were written, whether or not anything is in them.

    A checkpoint that is going on, or was cut off, leaves pages half written. They are not
    damaged: until all of it is on disk they are read from the log.
    """
    bad = _lines(connection, "cipher_integrity_check")
    again = set(_lines(connection, "cipher_integrity_check")) if bad else set()
    numbers = {line: int(match[1]) for line in again if (match := _PAGE.search(line))}
    logged = pages_in_log(path, set(numbers.values())) if numbers else set()
    return [line for line in bad if line in again and numbers.get(line) not in logged]


def _structure(connection: Any) -> Iterator[str]:
    return (line for line in _lines(connection, "integrity_check") if line != "ok")


def _references(connection: Any) -> Iterator[str]:
    rows = connection.execute("PRAGMA foreign_key_check").fetchall()
    return (f"the row {row[1]} of {row[0]} refers to a {row[2]} that is not there" for row in rows)


def _lines(connection: Any, pragma: str) -> list[str]:
    return [str(row[0]) for row in connection.execute(f"PRAGMA {pragma}")]
