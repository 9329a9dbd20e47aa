"""How a command reaches the server that has the file: a socket beside the database.

Only its owner may connect to it, and must show that it knows the SECRET: both ends
authenticate each other by a key made from it (the handshake of multiprocessing.connection).
"""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge, wait
from pathlib import Path

import structlog

from jobengine.domain.errors import reason
from jobengine.threads import ServiceThread

# How long the server waits for a command that says nothing, and a command for the server.
_SERVER_SECONDS, _COMMAND_SECONDS = 5, 60
_PAUSE_SECONDS = 0.1
_ADDRESS_BYTES_MAX = 107

_log = structlog.get_logger(component="control")


class Control:
    """A thread that answers commands on the socket, one at a time."""

    def __init__(self, path: Path, key: bytes, handle: Callable[[bytes], bytes]) -> None:
        """`handle` gives the answer to a message."""
        self._path = path
        self._key = key
        self._handle = handle
        self._stopping = threading.Event()
        # Whether the last connection could not be accepted.
        self._refusing = False
        self._woken, self._wake = socket.socketpair()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.thread = ServiceThread("control", self._run)

    def start(self) -> None:
        """Begins to answer. Where no socket can be made, commands must wait for a stop."""
        before = os.umask(0o177)
        try:
            self._path.unlink(missing_ok=True)  # the lock says that nobody else answers there
            with _address(self._path) as address:
                self._listener.bind(address)
            self._listener.listen()
        except OSError as error:
            _log.warning(
                "no socket for commands: those that change keys or users need the server stopped",
                path=str(self._path),
                reason=reason(error),
            )
            return
        finally:
            os.umask(before)
        self.thread.start()

    def stop(self) -> None:
        """Ends, after the command in hand."""
        self._stopping.set()
        self._wake.close()
        if self.thread.started:
            self.thread.stop()
            with contextlib.suppress(OSError):
                self._path.unlink()
        self._woken.close()
        self._listener.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                wait([self._listener, self._woken])
                accepted = None if self._stopping.is_set() else self._accept()
                if accepted is not None:
                    self._answer(accepted)
            except AuthenticationError:
                _log.warning("a command with another SECRET was refused")
            except EOFError:
                continue  # it hung up
            except OSError:
                self._stopping.wait(_PAUSE_SECONDS)  # so did it, or it says nothing
            except Exception:  # noqa: BLE001  logged; the next command is to be heard
                _log.exception("a command failed")

    def _accept(self) -> socket.socket | None:
        """The next to connect; None, after a pause, where there is no file descriptor for it."""
        try:
            accepted, _ = self._listener.accept()
        except OSError as error:
            if not self._refusing:
                _log.warning("no command can be heard; it is tried again", reason=str(error))
            self._refusing = True
            self._stopping.wait(_PAUSE_SECONDS)
            return None
        self._refusing = False
        return accepted

    def _answer(self, accepted: socket.socket) -> None:
        with _connection(accepted, _SERVER_SECONDS) as connection:
            deliver_challenge(connection, self._key)
            answer_challenge(connection, self._key)
            connection.send_bytes(self._handle(connection.recv_bytes()))


def send(path: Path, key: bytes, message: bytes) -> bytes:
    """The answer of the server on that socket to the message.

    Raises OSError and EOFError where nobody answers, and AuthenticationError.
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(path) as address:
            client.connect(address)
    except OSError:
        client.close()
        raise
    with _connection(client, _COMMAND_SECONDS) as connection:
        answer_challenge(connection, key)
        deliver_challenge(connection, key)
        connection.send_bytes(message)
        return connection.recv_bytes()


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """A name of the socket that fits into its address, however long the folder's name is.

    Linux has room for 107 bytes, and takes a file by an open descriptor of its folder.
    """
    if len(os.fsencode(path)) <= _ADDRESS_BYTES_MAX or not hasattr(os, "O_PATH"):
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _connection(connected: socket.socket, seconds: int) -> "Connection[bytes, bytes]":
    """A connection of messages; each read and write fails after so many seconds."""
    limit = struct.pack("ll", seconds, 0)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connected.setsockopt(socket.SOL_SOCKET, option, limit)
    return Connection(connected.detach())
