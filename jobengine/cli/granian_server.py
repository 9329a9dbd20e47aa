"""granian, for those who need more calls a second than waitress can parse.

Its HTTP is Rust; the calls run on its event loop (rsgi_bridge.py).
"""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from jobengine.cli.addresses import resolved
from jobengine.cli.http_server import OnSignal, SettingsOfServer
from jobengine.cli.rsgi_bridge import RsgiBridge
from jobengine.domain.errors import CannotOpen

# Calls that are worked on or wait at once; more wait in the kernel.
_CALLS_MAX = 2000
# Of a request's head, and of what is read ahead of its body.
_HEAD_BYTES_MAX = 64 * 1024


class GranianServer:
    """Serves a WSGI application with granian, in this process, until a signal."""

    def __init__(self, app: Any, settings: SettingsOfServer, signals: OnSignal) -> None:
        """Raises CannotOpen where granian is not installed, and OSError for the address."""
        try:
            from granian.constants import HTTPModes, Interfaces
            from granian.http import HTTP1Settings
            from granian.server.mt import MTServer
        except ImportError as error:
            raise CannotOpen(
                "granian is not installed: pip install 'jobengine[granian]'"
            ) from error
        self._bridge = RsgiBridge(app, settings)
        self._host = resolved(settings.host)  # granian takes no names
        self._port = settings.port or _free_port(self._host)
        _check_address(self._host, self._port)

        # Its supervisor with a thread for a worker, not a process: the database belongs
        # to one process, which is also the one that gets the signals.
        class OneProcess(MTServer):
            def _check_gil(self) -> None:
                """Several workers in threads would gain nothing under the GIL; one does."""

            def signal_handler_interrupt(self, *_: object) -> None:
                signals.stop()
                super().signal_handler_interrupt()  # type: ignore[no-untyped-call]  # granian's

            def signal_handler_reload(self, *_: object) -> None:
                signals.reload()

        self._server = OneProcess(
            "jobengine",
            address=self._host,
            port=self._port,
            interface=Interfaces.RSGI,
            http=HTTPModes.http1,
            # Or a call that asks for an upgrade is carried out, and its answer is lost.
            websockets=False,
            workers=1,
            backpressure=_CALLS_MAX,
            http1_settings=HTTP1Settings(
                header_read_timeout=settings.request_seconds * 1000,
                max_buffer_size=_HEAD_BYTES_MAX,
            ),
            log_enabled=False,
        )

    def _announce(self, listening: Callable[[], None]) -> None:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104  looked at
        while True:
            try:
                socket.create_connection((host, self._port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                listening()
                return

    def _target(self) -> Any:
        return self._bridge

    def addresses(self) -> list[str]:
        """The URLs that it answers at."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return [f"http://{host}:{self._port}"]

    def serve(self, listening: Callable[[], None]) -> None:
        """Serves until SIGTERM or SIGINT; `listening` is called once it does."""
        # granian tells when it has begun to start its worker, not when that listens.
        announce = threading.Thread(target=self._announce, args=(listening,), daemon=True)
        self._server.on_startup(announce.start)
        self._server.serve(target_loader=self._target, wrap_loader=False)


def _free_port(host: str) -> int:
    with _bound(host, 0) as probe:
        return int(probe.getsockname()[1])


def _check_address(host: str, port: int) -> None:
    """Raises OSError where the address is taken: granian would only log that."""
    _bound(host, port).close()


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    probe = socket.socket(family, kind, protocol)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    except OSError:
        probe.close()
        raise
    return probe
