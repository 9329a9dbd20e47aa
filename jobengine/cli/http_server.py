"""waitress, set up for JobEngine, with a stop that drops no answer."""

import signal
import socket
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog
from waitress import create_server, wasyncore
from waitress.server import BaseWSGIServer

from jobengine.cli.accepting import Accepting
from jobengine.cli.addresses import EVERYWHERE, dual_stack, plain
from jobengine.cli.fibers import Fibers
from jobengine.cli.http_channel import Channel, channel_class, clock
from jobengine.cli.http_parser import HEAD_BYTES_MAX
from jobengine.cli.pace import Pace
from jobengine.store.writing import latches

# Bytes that waitress gathers before a worker thread sends. At its default of 1 the
# main loop spins while a worker is inside send(), and takes the GIL from every other
# thread: 64 clients got 269 creates a second instead of 3,092.
_SEND_BYTES = 64 * 1024
# A body or an answer above these would go to an unencrypted temporary file: never.
_NEVER_SPILL = 1 << 40
# What may wait in memory for a slow client before its list is read on.
_OUTBUF_HIGH_WATERMARK = 1024 * 1024
# Above the app's own limit, so that the app's 413 is the one that clients meet.
BODY_HEADROOM = 2
_CONNECTION_LIMIT = 1000
# A client that takes nothing of an answer for this long is cut off.
_STALLED_MILLISECONDS = 60_000
# How long a stop waits for answers in progress.
_DRAIN_SECONDS = 5.0
# How often it is looked for clients that are too slow.
_LOOK_SECONDS = 1.0

_log = structlog.get_logger(component="http")


def writes(method: str, path: str) -> bool:
    """Whether a call waits for the writer and for nothing else."""
    if not path.startswith("/api/v1/jobs"):
        return False
    return method in ("PUT", "POST", "DELETE") or path == "/api/v1/jobs/next"


class SettingsOfServer(NamedTuple):
    """What a server needs to know. `max_body_bytes` is what the application accepts."""

    host: str
    port: int
    threads: int
    max_body_bytes: int
    request_seconds: int

    @property
    def pace(self) -> Pace:
        """How slow a client may be."""
        return Pace(self.request_seconds, self.max_body_bytes)


class OnSignal(NamedTuple):
    """What to call when the server begins to stop (SIGTERM, SIGINT), and at SIGHUP."""

    stop: Callable[[], None]
    reload: Callable[[], None]


class HttpServer:
    """Serves a WSGI application with waitress until a signal."""

    def __init__(self, app: Any, settings: SettingsOfServer, signals: OnSignal) -> None:
        """Binds the address. Raises OSError where it cannot be bound."""
        self._stopping = False
        self._signals = signals
        self._sockets: dict[int, Any] = {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "send_bytes", DeprecationWarning)
            self._server = create_server(
                app,
                map=self._sockets,
                **_listening(settings.host, settings.port),
                threads=settings.threads,
                ident=None,
                # A forwarded header says whether a cookie is Secure, and nothing else: the one who
                # sends a false one harms nobody else. So none needs to be cleared at each call.
                clear_untrusted_proxy_headers=False,
                send_bytes=_SEND_BYTES,
                inbuf_overflow=_NEVER_SPILL,
                outbuf_overflow=_NEVER_SPILL,
                outbuf_high_watermark=_OUTBUF_HIGH_WATERMARK,
                max_request_header_size=HEAD_BYTES_MAX,
                max_request_body_size=settings.max_body_bytes * BODY_HEADROOM,
                connection_limit=_CONNECTION_LIMIT,
                asyncore_use_poll=True,
                # Reads on while a request is worked on, and so notices a client that
                # hung up before a job is claimed for it.
                channel_request_lookahead=1,
                log_socket_errors=False,
            )
        self._main = threading.get_ident()
        self._trigger = self._listeners()[0].trigger
        self._fibers = Fibers(self._wake)
        for listener in self._listeners():
            Accepting(listener, clock)
            listener.channel_class = channel_class(self._fibers, settings.pace)
            listener.add_task = self._add_task
            listener.pull_trigger = self._pull_trigger
            listener.adj.socket_options = _socket_options()
            listener.fix_addr = _plain

    def addresses(self) -> list[str]:
        """The URLs that it answers at."""
        return [
            f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            for host, port in (
                (listener.effective_host, listener.effective_port) for listener in self._listeners()
            )
        ]

    def serve(self, listening: Callable[[], None]) -> None:
        """Serves until SIGTERM or SIGINT, then answers what it has accepted, and returns.

        `listening` is called once it serves.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        signal.signal(signal.SIGHUP, lambda *_: self._signals.reload())
        listening()
        latches.use_on_this_thread(self._fibers.latch)
        look = clock.elapsed()
        while not self._stopping:
            wasyncore.poll2(_LOOK_SECONDS, self._sockets)
            self._fibers.run()
            if (now := clock.elapsed()) > look:
                look = now + _LOOK_SECONDS
                for channel in self._channels():
                    channel.look(now)
        self._drain()

    def _stop(self) -> None:
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        self._trigger.pull_trigger()

    def _pull_trigger(self) -> None:
        if threading.get_ident() != self._main:
            self._wake()

    def _add_task(self, channel: Any) -> None:
        request = channel.requests[0]
        if request.error is None and writes(request.command, request.path):
            self._fibers.add(channel.service)
        else:
            self._server.task_dispatcher.add_task(channel)

    def _drain(self) -> None:
        """Stops accepting, and turns the loop until every answer has left.

        waitress's own shutdown ends the loop first, which would hold back what is in
        its buffers.
        """
        self._signals.stop()
        for listener in self._listeners():
            listener.accepting = False
            listener.del_channel(self._sockets)
            listener.socket.close()
        deadline = clock.elapsed() + _DRAIN_SECONDS
        while self._close_idle() and clock.elapsed() < deadline:
            wasyncore.poll2(0.1, self._sockets)
            self._fibers.run()
        unanswered = self._close_idle()
        if unanswered:
            _log.warning("stopped without answering everything", connections=unanswered)
        self._server.task_dispatcher.shutdown(timeout=1)

    def _close_idle(self) -> int:
        """Closes the connections that wait for nothing; how many others there are."""
        channels = self._channels()
        for channel in channels:
            if channel.idle():
                channel.will_close = True
        return len(channels)

    def _channels(self) -> list[Channel]:
        return [s for s in self._sockets.values() if isinstance(s, Channel)]

    def _listeners(self) -> list[Any]:
        return [s for s in self._sockets.values() if isinstance(s, BaseWSGIServer)]


def _listening(host: str, port: int) -> dict[str, Any]:
    """The arguments of waitress for an address. Its own socket on `::` is of one family alone."""
    if host == EVERYWHERE:
        return {"sockets": [dual_stack(port)]}
    return {"host": host, "port": port}


def _plain(address: tuple[Any, ...]) -> tuple[Any, ...]:
    return (plain(address[0]), *address[1:])


def _socket_options() -> list[tuple[int, int, int]]:
    options = [(socket.SOL_TCP, socket.TCP_NODELAY, 1)]
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        options.append((socket.SOL_TCP, socket.TCP_USER_TIMEOUT, _STALLED_MILLISECONDS))
    return options
