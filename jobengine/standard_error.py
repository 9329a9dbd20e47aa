"""stderr, for log lines and messages alike: what cannot be written is lost, and nothing raises.

A disk is full, the reader of a pipe has ended, a terminal was closed: none of that may keep a call
from its answer, or end a thread. The bytes go to the file descriptor itself, since a buffer
would keep what failed, fail again at the next flush, and make Python exit with 120.
"""

import io
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FD = 2


class StandardError(io.RawIOBase):
    """Writes to a file descriptor without ever raising, and counts the log lines that were lost."""

    def __init__(self, fd: int = _FD) -> None:
        self._fd = fd
        # A finalizer may print while this thread writes: with a plain lock that would be forever.
        self._lock = threading.RLock()
        self._reported = 0
        # Whether the last line broke off.
        self._cut = False
        # Log lines that were not written whole; only ever grows.
        self.lost = 0
        # Makes the line that says how many were lost since it was last written.
        self.report: Callable[[int], bytes] = _report
        os.register_at_fork(after_in_child=self._renew_lock)

    def line(self, line: bytes) -> None:
        """Writes a log line, after a report of those that were lost before it."""
        with self._lock:
            lost = self.lost - self._reported
            if lost and self._put(self.report(lost)):
                self._reported += lost
            if self._reported < self.lost or not self._put(line):
                self.lost += 1

    def lose(self) -> None:
        """Counts a log line that could not even be made."""
        with self._lock:
            self.lost += 1

    def write(self, data: "ReadableBuffer") -> int:
        """Writes what is no log line, such as a message of a command."""
        content = bytes(data)
        with self._lock:
            self._put(content)
        return len(content)

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The file descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._fd)

    def _put(self, content: bytes) -> bool:
        rest = memoryview(b"\n" + content if self._cut else content)
        whole = len(rest)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            self._cut = self._cut or len(rest) < whole
            return False
        self._cut = False
        return True

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()  # another thread may have held it at the fork


def _report(lost: int) -> bytes:
    return b"log lines lost: %d\n" % lost


STANDARD_ERROR = StandardError()


def take_over() -> None:
    """Has this process print to stderr through STANDARD_ERROR, and opens what was closed.

    A process that starts with stderr closed gives its number to whatever it opens first, a
    connection, say, and would write its messages there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # What is printed to a closed stdout is to fail, as it would.
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115  for the whole process
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115  likewise
    sys.stderr = io.TextIOWrapper(
        STANDARD_ERROR, encoding="utf-8", errors="backslashreplace", write_through=True
    )


def finish_stdout() -> None:
    """Lets go of what stdout cannot take, which Python would try to write again as it exits."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # the latter where it was closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
