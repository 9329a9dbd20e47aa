"""One server a file: locks on a file beside the database and on the database itself."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

import structlog

from jobengine.domain.errors import CannotOpen, reason
from jobengine.store.sqlcipher.files import (
    beside,
    finish_replacing,
    give_to_owner_of,
    is_being_replaced,
)
from jobengine.store.sqlcipher.held import HeldFile, in_use

# The holder's process, in a line of this length; the note on the log follows (epoch.py).
_HOLDER_BYTES = 24
_NOTE_MAX = 256

_log = structlog.get_logger(component="store")


class StoreLock:
    """An exclusive flock on `<database>.lock`, which names the process that holds it.

    It is the lock of the database's name, there before the database is and while a restore
    puts another in its place. With it the file that has the name is held (HeldFile), so that
    neither another name of the file nor a `.lock` that was removed lets in a second server.

    The kernel lets go of both when the process ends, however it ends. The `.lock` is
    never removed: another process may be waiting on it. Who takes it has a database that
    is whole: a restore that was cut off is brought to its end.
    """

    def __init__(self, database: Path) -> None:
        """Takes the lock. Raises InUse where another process has it, CannotOpen on any OSError."""
        self._database = database
        self._path = beside(database, ".lock")
        self._file: HeldFile | None = None
        self._fd = self._opened()
        try:
            self._take()
            self._finish_replacing()
            with suppress(FileNotFoundError):  # it is made later, by hold()
                self.hold(create=False)
            self._name_holder()
        except BaseException:
            self.release()
            raise

    def hold(self, *, create: bool = True) -> HeldFile:
        """The database's file, held; where there is none, an empty one. Raises CannotOpen."""
        if self._file is None:
            self._file = HeldFile(self._database, create=create)
        return self._file

    @property
    def note(self) -> str:
        """What was last noted in the `.lock`; empty where nothing was."""
        return os.pread(self._fd, _NOTE_MAX, _HOLDER_BYTES).decode("ascii", "replace")

    @note.setter
    def note(self, text: str) -> None:
        """Notes a text, on disk."""
        os.pwrite(self._fd, text.encode(), _HOLDER_BYTES)
        os.ftruncate(self._fd, _HOLDER_BYTES + len(text))
        os.fsync(self._fd)

    def release(self) -> None:
        """Lets go of the locks. SQLite's connections to the file must be closed by now."""
        if self._file is not None:
            self._file.close()
        os.close(self._fd)

    def _opened(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            self._database.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                return os.open(self._path, flags)
            fd = os.open(self._path, flags | os.O_CREAT, 0o600)
            model = self._database if self._database.exists() else self._database.parent
            give_to_owner_of(model, fd)
        except OSError as error:
            raise CannotOpen(f"{self._path} cannot be opened: {reason(error)}") from error
        return fd

    def _take(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._fd, _HOLDER_BYTES, 0).decode("ascii", "replace").split()
            raise in_use(self._database, holder[0] if holder else "") from error
        except OSError as error:
            raise CannotOpen(
                f"{self._path} cannot be locked: {reason(error)}; the database must lie on a file "
                "system that has locks"
            ) from error

    def _name_holder(self) -> None:
        try:
            os.pwrite(self._fd, f"{os.getpid()}\n".ljust(_HOLDER_BYTES).encode(), 0)
        except OSError as error:
            raise CannotOpen(f"{self._path} cannot be written: {reason(error)}") from error

    def _finish_replacing(self) -> None:
        try:
            if is_being_replaced(self._database):
                replaced = finish_replacing(self._database)
                _log.warning("a restore that was cut off is finished", replaced=str(replaced))
        except OSError as error:
            raise CannotOpen(
                f"a restore of {self._database} was cut off, and cannot be finished: "
                f"{reason(error)}"
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


def note_beside(database: Path) -> str:
    """The note in the `.lock` of a database that another process may have; empty for none."""
    try:
        with beside(database, ".lock").open("rb") as lock:
            return lock.read(_NOTE_MAX)[_HOLDER_BYTES:].decode("ascii", "replace")
    except OSError:
        return ""
