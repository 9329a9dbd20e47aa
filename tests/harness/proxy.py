"""A TCP proxy before PostgreSQL that cuts a connection at a chosen moment."""

import contextlib
import socket
import threading
from typing import Self


class Proxy:
    """Forwards to a port. Once armed, it cuts the first connection that sends the word.

    `when` is "before" the word is passed on, "during", at once after it was passed on, or
    "after", when the answer to it has come from the other side. No answer to it is brought back.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._armed: tuple[bytes, str] | None = None
        self._lock = threading.Lock()
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, word: bytes, when: str) -> None:
        """Cuts one connection, the next time."""
        self._armed = word, when

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                keep_back = threading.Event()
                for work in (self._pass_on, self._bring_back):
                    threading.Thread(
                        target=work, args=(client, server, keep_back), daemon=True
                    ).start()

    def _pass_on(self, client: socket.socket, server: socket.socket, back: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                when = self._fires(data)
                if when in ("during", "after"):
                    back.set()
                if when != "before":
                    server.sendall(data)
                if when in ("before", "during"):
                    break
        _close(client, server)

    def _bring_back(
        self, client: socket.socket, server: socket.socket, back: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while (data := server.recv(1 << 16)) and not back.is_set():
                client.sendall(data)
        _close(client, server)

    def _fires(self, data: bytes) -> str | None:
        with self._lock:
            if self._armed is None or self._armed[0] not in data:
                return None
            _, when = self._armed
            self._armed = None
            self.cuts += 1
            return when

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # which ends a wait in accept, too
        self._listener.close()


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
