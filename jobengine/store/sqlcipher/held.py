"""The database file itself, held: one process a file, whatever names the file has."""

import fcntl
import os
import stat
import struct
from pathlib import Path

from jobengine.domain.errors import CannotOpen, InUse, reason
from jobengine.store.sqlcipher.files import beside, give_to_owner_of

# struct flock of Linux on 64 bits: type, whence, start, length, process. Locks of an open
# file description outlive the closing of other descriptors on the file, which drops all POSIX
# locks of a process (https://www.sqlite.org/howtocorrupt.html, section 2.2).
_FLOCK = struct.Struct("hhqqi4x")
# The byte that is locked: far behind those of SQLite, which begin at 1 GiB.
_BYTE = 1 << 62
# The bytes that each SQLite connection in WAL mode holds a shared lock on.
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510

# (device, inode): what makes a file the same one under another name.
Identity = tuple[int, int]


class HeldFile:
    """An exclusive lock on the inode of a database file.

    The descriptor must outlive SQLite's connections to the file: closing any descriptor
    on it drops the locks of those. So nothing else in the process may open the file while
    they are there, and its bytes are read here.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Takes the lock. Raises InUse; CannotOpen for what is no file of one name.

        `create` makes an empty file where there is none. Raises FileNotFoundError without.
        """
        self.path = path
        self._fd = self._opened(create=create)
        try:
            status = os.fstat(self._fd)
            self.identity: Identity = (status.st_dev, status.st_ino)
            self._lock()
            self._refuse_other_names(status)
        except BaseException:
            self.close()
            raise

    def head(self, size: int) -> bytes:
        """The first bytes of the file."""
        return os.pread(self._fd, size, 0)

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._fd)

    def _opened(self, *, create: bool) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            try:
                _refuse_special(self.path)
                return os.open(self.path, flags)
            except FileNotFoundError:
                if not create:
                    raise
            fd = os.open(self.path, flags | os.O_CREAT, 0o600)  # the -wal and -shm become alike
            give_to_owner_of(self.path.parent, fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CannotOpen(f"{self.path} cannot be opened to write: {reason(error)}") from error
        return fd

    def _refuse_other_names(self, status: os.stat_result) -> None:
        if identity(self.path) != self.identity:
            raise CannotOpen(f"{self.path} was replaced while it was opened: try again")
        if status.st_nlink > 1:
            raise CannotOpen(
                f"{self.path} has {status.st_nlink} names (hard links): expected one, since its "
                "log lies next to each of them; remove the others"
            )

    def _lock(self) -> None:
        """Locks the inode, on Linux; elsewhere the `.lock` is all there is."""
        if not hasattr(fcntl, "F_OFD_SETLK"):
            return
        lock = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _BYTE, 1, 0)
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, lock)
        except (BlockingIOError, PermissionError) as error:
            raise in_use(self.path, self._holder()) from error
        except OSError as error:
            raise CannotOpen(f"{self.path} cannot be locked: {reason(error)}") from error

    def _holder(self) -> str:
        """A process that has the file open in SQLite; nothing where none is seen from here."""
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _SHARED_FIRST, _SHARED_SIZE, 0)
        kind, *_, process = _FLOCK.unpack(fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, asked))
        return str(process) if kind != fcntl.F_UNLCK and process > 0 else ""


def in_use(database: Path, holder: str) -> InUse:
    """The error for a database that another process has."""
    who = f"process {holder}" if holder else "a process that cannot be seen from here"
    return InUse(f"{database} is in use by {who}: only one server may open it")


def identity(path: Path) -> Identity | None:
    """Which file is at the path; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def log_identity(database: Path) -> Identity | None:
    """Which -wal is next to the database."""
    return identity(beside(database, "-wal"))


def _refuse_special(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise CannotOpen(f"{path} is no regular file")
