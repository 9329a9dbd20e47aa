"""One server a file: a lock beside the database, held for the life of the process."""

import fcntl
import os
from pathlib import Path
from typing import Self

from jobengine.domain.errors import CannotOpen, InUse


class StoreLock:
    """An exclusive flock on `<database>.lock`, which names the process that holds it.

    The kernel lets go of it when the process ends, however it ends. The file is
    never removed: another process may be waiting on it.
    """

    def __init__(self, database: Path) -> None:
        """Takes the lock. Raises InUse where another process has it, CannotOpen on any OSError."""
        path = database.with_name(database.name + ".lock")
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

    def release(self) -> None:
        """Lets go of the lock."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
