"""Files that become a database at once or not at all."""

import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from itertools import count
from pathlib import Path

from jobengine.domain.errors import CannotOpen, reason

# A database that is complete and checked, and takes the place of the other one next.
_RESTORED, _REPLACED = ".restored-", ".replaced-"


def beside(path: Path, ending: str) -> Path:
    """The file of that name with something at its end: `-wal`, `.lock` and the like."""
    return path.with_name(path.name + ending)


def log_bytes(path: Path) -> int:
    """The size of the -wal beside a database; 0 where there is none."""
    try:
        return beside(path, "-wal").stat().st_size
    except FileNotFoundError:
        return 0


def give_to_owner_of(model: Path, fd: int) -> None:
    """Gives a file that root has made to the owner and the group of another, or of a folder.

    Else a service that does not run as root could not open what an administrator's command
    has made for it. Root without the capability to do so, as in some containers, keeps it.
    """
    if os.geteuid() == 0:
        like = model.stat()
        with suppress(PermissionError):
            os.fchown(fd, like.st_uid, like.st_gid)


class Partial:
    """`<destination>.partial`: what is to become a file, once it is complete.

    One that a killed command has left is written over. Only its maker may have it: what
    two of them wrote into it would become the destination of both.
    """

    def __init__(self, destination: Path) -> None:
        """Makes it, empty. Raises CannotOpen, also where another process is at it."""
        self.destination = destination
        self.path = beside(destination, ".partial")
        try:
            self._fd = self._taken()
            os.fchmod(self._fd, 0o600)
            os.ftruncate(self._fd, 0)
            self._drop_log()
        except OSError as error:
            raise CannotOpen(f"{self.path} cannot be written: {reason(error)}") from error

    def become(self, name: Path | None = None) -> None:
        """Makes it the destination, or the file of a name beside it, on disk and for good.

        It gets the owner, group and mode of what it replaces. Raises CannotOpen where this
        process may not give them, and OSError.
        """
        self._become_like(self.destination)
        _sync(self._fd)
        self.path.replace(name or self.destination)
        sync_directory(self.destination)

    def close(self) -> None:
        """Lets go of it; takes away what has not become the destination."""
        if self._is_at(self._fd):
            self._drop_log()
            self.path.unlink()
        os.close(self._fd)

    def _drop_log(self) -> None:
        """Takes away what a killed command has left: it would be played into the next copy."""
        for ending in ("-wal", "-shm"):
            beside(self.path, ending).unlink(missing_ok=True)

    def _become_like(self, replaced: Path) -> None:
        try:
            like = replaced.stat()
        except FileNotFoundError:
            give_to_owner_of(replaced.parent, self._fd)
            return
        made = os.fstat(self._fd)
        if (made.st_uid, made.st_gid) != (like.st_uid, like.st_gid):
            try:
                os.fchown(self._fd, like.st_uid, like.st_gid)
            except OSError as error:
                raise CannotOpen(
                    f"{replaced} belongs to user {like.st_uid}, group {like.st_gid}, and what "
                    f"replaces it cannot be given to them: {reason(error)}; run this as that "
                    "user or as root"
                ) from error
        os.fchmod(self._fd, stat.S_IMODE(like.st_mode))

    def _taken(self) -> int:
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(self.path, flags, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(fd)
                raise CannotOpen(
                    f"{self.path} is being written by another command: wait for its end"
                ) from error
            except OSError as error:
                os.close(fd)
                raise CannotOpen(f"{self.path} cannot be locked: {reason(error)}") from error
            if self._is_at(fd):
                return fd
            os.close(fd)  # it became the destination of another before it was ours

    def _is_at(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self.path.lstat())
        except FileNotFoundError:
            return False


@contextmanager
def partial(destination: Path) -> Iterator[Partial]:
    """A Partial, taken away where it has not become its destination.

    Raises CannotOpen for what the file system refuses.
    """
    made = Partial(destination)
    try:
        yield made
    except OSError as error:
        raise CannotOpen(f"{destination} cannot be written: {reason(error)}") from error
    finally:
        made.close()


def _sync(fd: int) -> None:
    """Has a file on disk: on macOS fsync leaves it in the disk's cache, as SQLite knows, too."""
    if sys.platform == "darwin":
        with suppress(OSError):  # of a file system that cannot do it
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def sync_directory(path: Path) -> None:
    """Has the names in the folder of a file on disk."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _sync(fd)
    finally:
        os.close(fd)


def replace_database(complete: Partial) -> Path | None:
    """Makes the file the database; gives where the one is that was there, with its log.

    Once the file has its new name the rest follows whatever happens: who opens the
    database next does what is left of it (finish_replacing). Nobody else may open it
    meanwhile.
    """
    path = complete.destination
    kept = (beside(path, f"{_REPLACED}{number}") for number in count(1))
    free = next(k for k in kept if not k.exists() and not beside(k, "-wal").exists())
    complete.become(beside(path, _RESTORED + free.name.rpartition("-")[2]))
    return finish_replacing(path)


def is_being_replaced(path: Path) -> bool:
    """Whether a replacement was cut off, or is going on."""
    return any(_complete(path))


def finish_replacing(path: Path) -> Path | None:
    """Does what is left to do of a replacement; gives where the database is that was there.

    A log beside a database that it is not of would be played into it: so the old ones go
    first, and for that instant there is none.
    """
    replaced = None
    for complete in _complete(path):
        kept = beside(path, _REPLACED + complete.name.rpartition("-")[2])
        with suppress(FileNotFoundError):
            path.rename(kept)
        if log_bytes(path):
            beside(path, "-wal").rename(beside(kept, "-wal"))
        for ending in ("-wal", "-shm"):
            beside(path, ending).unlink(missing_ok=True)
        sync_directory(path)
        complete.rename(path)
        sync_directory(path)
        replaced = kept if kept.exists() else None
    return replaced


def _complete(path: Path) -> list[Path]:
    """What is to become the database, and has been made so by no one yet: one, as a rule."""
    return sorted(path.parent.glob(f"{escape(path.name)}{_RESTORED}*"))
