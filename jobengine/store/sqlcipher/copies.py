"""Copies of an encrypted file: to keep, to put in its place, or under another key.

A copy is made beside its destination, checked, and then takes its name, so that there is
never half of one under that name. It is encrypted page by page on its way: nothing is
written that is not.
"""

from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from sqlcipher3 import dbapi2 as sqlcipher

from jobengine.domain.errors import CannotOpen, ConfigRefused, reason
from jobengine.store.failures import cause
from jobengine.store.findings import Findings, Tell
from jobengine.store.migrate import knows, refuse_unfinished
from jobengine.store.secret_forms import forms
from jobengine.store.sqlcipher.cipher import HEAD_BYTES, CipherFile, assert_encrypted
from jobengine.store.sqlcipher.epoch import begin_epoch, refuse_foreign_log
from jobengine.store.sqlcipher.files import (
    beside,
    log_bytes,
    partial,
    replace_database,
    sync_directory,
)
from jobengine.store.sqlcipher.integrity import check, counts, revisions
from jobengine.store.sqlcipher.lock import StoreLock, note_beside, settle
from jobengine.store.sqlcipher.wal import damage_of_log

# Pages copied at once, a mebibyte: how often it is told how far it is.
_STEP_PAGES = 256


class Restored(NamedTuple):
    """What was restored, and where the database is that was there before."""

    findings: Findings
    replaced: Path | None


def back_up(source: Path, secret: bytes, destination: Path, tell: Tell) -> Findings:
    """Copies a database as it is at this moment, beside its server or not.

    The copy opens with the same SECRET, and needs no other file. Raises CannotOpen, or
    ConfigRefused where both are one, and then the destination is as it was.
    """
    file = existing(source, secret)
    _refuse_itself(source, destination)
    with partial(destination) as copy:
        found = _copy(file, file.at(copy.path), tell)
        _let_go_of(destination)
        copy.become()
    return found


def restore(source: Path, secret: bytes, database: Path, tell: Tell) -> Restored:
    """Puts a backup in the place of a database, which is kept under another name.

    Raises CannotOpen, and then the database is as it was, where a server has it open, or
    the backup is damaged or of a newer version; ConfigRefused where both are one.
    """
    file = existing(source, secret)
    _refuse_itself(source, database)
    with StoreLock(database), partial(database) as copy:
        check(file, tell).refuse(f"{source} is damaged, and nothing was restored")
        _refuse_newer(file)
        found = _copy(file, file.at(copy.path), tell)
        return Restored(found, replace_database(copy))


def rekey(database: Path, secret: bytes, new_secret: bytes, tell: Tell) -> Findings | None:
    """Puts a copy under a new SECRET in the place of a database; None where it has it already.

    Raises CannotOpen, and then the database is as it was, where another process has it open,
    or it is damaged.
    """
    _refuse_missing(database)
    with StoreLock(database), partial(database) as copy:
        if _is_under(database, secret, new_secret):
            return None
        file = existing(database, secret)
        _empty_log(file, tell)
        found = _copy(file, CipherFile(copy.path, new_secret), tell, at_rest=True)
        copy.become()
    return found


def _copy(source: CipherFile, target: CipherFile, tell: Tell, *, at_rest: bool = False) -> Findings:
    """Copies and checks; gives what is in the copy, of which nothing is damaged."""
    try:
        with source.snapshot(at_rest=at_rest) as there, closing(target.connect()) as here:
            here.execute("PRAGMA journal_mode = OFF")  # a copy that fails is thrown away
            here.execute("PRAGMA synchronous = OFF")  # and one that does not is synced once
            there.backup(
                here,
                pages=_STEP_PAGES,
                progress=lambda _, left, pages: tell("copying", pages - left, pages),
            )
            _refuse_unfinished(there, source.path)
            begin_epoch(here)
            expected = counts(there)
    except (sqlcipher.Error, MemoryError) as error:
        raise CannotOpen(f"{source.path} cannot be copied: {cause(error)}") from error
    with target.path.open("rb") as copy:  # which no connection has open any more
        assert_encrypted(target.path, copy.read(HEAD_BYTES))
    found = check(target, tell)
    found.refuse("the copy is damaged, and was thrown away")
    if (found.jobs, found.queues) != expected:
        raise CannotOpen(f"the copy has other jobs than {source.path}, and was thrown away")
    return found


def existing(path: Path, secret: bytes) -> CipherFile:
    """A database that is there, with a log of its own if any. Raises CannotOpen."""
    _refuse_missing(path)
    file = CipherFile(path, secret)
    if file.is_new:
        raise CannotOpen(f"{path} is empty: it was cut off while it was made")
    refuse_foreign_log(file, note_beside(path))
    return file


def _refuse_missing(path: Path) -> None:
    settle(path)
    try:
        empty = not path.stat().st_size and not log_bytes(path)
    except FileNotFoundError:
        raise CannotOpen(f"{path} is not there") from None
    except OSError as error:
        raise CannotOpen(f"{path} cannot be read: {reason(error)}") from error
    if empty:
        raise CannotOpen(f"{path} is empty")


def _refuse_itself(source: Path, destination: Path) -> None:
    """Raises ConfigRefused where copying would write over what is copied."""
    parts = [beside(source, ending) for ending in ("", "-wal", "-shm", ".lock")]
    for written in (destination, beside(destination, ".partial")):
        if any(_are_one(written, part) for part in parts):
            mistake = f"expected a file that is not {source} itself, nor a part of it"
            raise ConfigRefused("the command line", [mistake])


def _are_one(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except FileNotFoundError:
        return False


def _refuse_unfinished(connection: Any, path: Path) -> None:
    for revision in revisions(connection):
        refuse_unfinished(str(path), revision)


def _refuse_newer(file: CipherFile) -> None:
    with file.snapshot() as connection:
        _refuse_unfinished(connection, file.path)
        found = revisions(connection)
    for revision in found:
        if not knows(revision):
            raise CannotOpen(f"{file.path} has schema {revision}: a newer JobEngine wrote it")


def _let_go_of(destination: Path) -> None:
    """Raises CannotOpen where the destination is a database in use, or with a log of its own."""
    if beside(destination, ".lock").exists():
        StoreLock(destination).release()
    if log_bytes(destination):
        raise CannotOpen(f"{destination} is a database, with a log beside it: not written over")


def _is_under(database: Path, secret: bytes, new_secret: bytes) -> bool:
    """Whether a database is under the new SECRET, which may be the line of the old one."""
    is_line = forms(secret)[0] == forms(new_secret)[0]
    return _opens(database, new_secret) and (is_line or not _opens(database, secret))


def _opens(path: Path, secret: bytes) -> bool:
    try:
        CipherFile(path, secret)
    except CannotOpen:
        return False
    return True


def _empty_log(file: CipherFile, tell: Tell) -> None:
    """Has what is in the log in the file: beside a file of another key, a log is rubbish."""
    Findings(damage=damage_of_log(file.path, tell)).refuse(f"{file.path} is damaged")
    try:
        with closing(file.connect()) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except (sqlcipher.Error, MemoryError) as error:
        raise CannotOpen(f"{file.path}: its log cannot be emptied: {cause(error)}") from error
    if beside(file.path, "-wal").exists():  # the last to close a database takes it away
        raise CannotOpen(f"{file.path} is open in another process, such as a backup")
    sync_directory(file.path)
