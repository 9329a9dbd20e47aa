"""One server a file: a lock beside the database, held for the life of the process."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

import structlog

from jobengine.domain.errors import CannotOpen, InUse
from jobengine.store.sqlcipher.files import beside, finish_replacing, is_being_replaced

_log = structlog.get_logger(component="store")


class StoreLock:
    """An exclusive flock on `<database>.lock`, which names the process that holds it.

    The kernel lets go of it when the process ends, however it ends. The file is
    never removed: another process may be waiting on it. Who takes it has a database that
    is whole: a restore that was cut off is brought to its end.
    """

    def __init__(self, database: Path) -> None:
        """Takes the lock. Raises InUse where another process has it, CannotOpen on any OSError."""
        path = beside(database, ".lock")
        try:
            database.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotOpen(f"{path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise InUse(
                f"{database} is in use by process {holder}: only one server may open it"
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        self._finish(database)

    def release(self) -> None:
        """Lets go of the lock."""
        os.close(self._fd)

    def _finish(self, database: Path) -> None:
        try:
            if is_being_replaced(database):
                replaced = finish_replacing(database)
                _log.warning("a restore that was cut off is finished", replaced=str(replaced))
        except OSError as error:
            self.release()
            raise CannotOpen(
                f"a restore of {database} was cut off, and cannot be finished: {error.strerror}"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def settle(database: Path) -> None:
    """Brings a restore that was cut off to its end, for who opens the database without the lock."""
    if is_being_replaced(database):
        with suppress(CannotOpen):  # or somebody is at it
            StoreLock(database).release()
