"""How waitress accepts connections when the machine has no room for another."""

import errno
import socket
from typing import Any

import structlog

from jobengine.domain.clock import SystemSource

# No file descriptor, in this process or on the machine, or no memory.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# How long the clients wait in the kernel then.
PAUSE_SECONDS = 1.0

_log = structlog.get_logger(component="http")


class Accepting:
    """Has a listener pause where a connection cannot be accepted for want of room.

    waitress drops the error and asks again at once, for as long as that client waits: at a full
    core, and without a line.
    """

    def __init__(self, listener: Any, clock: SystemSource) -> None:
        """Puts itself in the way of the listener's `accept` and `readable`."""
        self._accept, listener.accept = listener.accept, self.accept
        self._readable, listener.readable = listener.readable, self.readable
        self._clock = clock
        # When to go on, by SystemSource.elapsed; None unless the last try found no room.
        self._resume: float | None = None

    def accept(self) -> tuple[socket.socket, Any] | None:
        """The next connection; None where there is none, or no room for it."""
        try:
            accepted: tuple[socket.socket, Any] | None = self._accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._pause(error)
            return None
        if accepted is not None and self._resume is not None:
            self._resume = None
            _log.warning("connections are accepted again")
        return accepted

    def readable(self) -> bool:
        """Whether to wait for connections."""
        paused = self._resume is not None and self._clock.elapsed() < self._resume
        return bool(self._readable()) and not paused

    def _pause(self, error: OSError) -> None:
        if self._resume is None:
            _log.warning("no connection can be accepted; they wait", reason=error.strerror)
        self._resume = self._clock.elapsed() + PAUSE_SECONDS
