"""How a command reaches the server that has the file: a socket beside the database.

Only its owner may connect to it, and must show that it knows the SECRET: both ends
authenticate each other by a key made from it (the handshake of multiprocessing.connection).
"""

import contextlib
import os
import threading
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

import structlog

_FAMILY = "AF_UNIX"
_PAUSE_SECONDS = 0.1

_log = structlog.get_logger(component="control")


class Control:
    """A thread that answers commands on the socket, one at a time."""

    def __init__(self, path: Path, key: bytes, handle: Callable[[bytes], bytes]) -> None:
        """`handle` gives the answer to a message."""
        self._path = path
        self._key = key
        self._handle = handle
        self._stopping = threading.Event()
        self._listener: Listener | None = None
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Begins to answer. Where no socket can be made, commands must wait for a stop."""
        before = os.umask(0o177)
        try:
            self._path.unlink(missing_ok=True)  # the lock says that nobody else answers there
            self._listener = Listener(str(self._path), _FAMILY, authkey=self._key)
        except OSError as error:
            _log.warning(
                "no socket for commands: those that change keys need the server stopped",
                path=str(self._path),
                reason=error.strerror or str(error),
            )
            return
        finally:
            os.umask(before)
        self._thread.start()

    def stop(self) -> None:
        """Ends, after the command in hand."""
        if self._listener is None:
            return
        self._stopping.set()
        with contextlib.suppress(OSError, EOFError, AuthenticationError):
            Client(str(self._path), _FAMILY, authkey=self._key).close()  # wakes it
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        assert self._listener is not None  # noqa: S101  the thread starts with it
        while not self._stopping.is_set():
            try:
                with self._listener.accept() as connection:
                    self._serve(connection)
            except AuthenticationError:
                _log.warning("a command with another SECRET was refused")
            except EOFError:
                continue  # it hung up
            except OSError:
                self._stopping.wait(_PAUSE_SECONDS)  # so did it, or there is no file descriptor
            except Exception:  # noqa: BLE001  logged; the next command is to be heard
                _log.exception("a command failed")

    def _serve(self, connection: "Connection[bytes, bytes]") -> None:
        while True:
            connection.send_bytes(self._handle(connection.recv_bytes()))


def send(path: Path, key: bytes) -> Callable[[bytes], bytes]:
    """Connects to the server's socket; what sends a message there and gives the answer.

    Raises OSError where nobody answers, and AuthenticationError.
    """
    connection = Client(str(path), _FAMILY, authkey=key)

    def exchange(message: bytes) -> bytes:
        connection.send_bytes(message)
        return connection.recv_bytes()

    return exchange
