"""waitress, set up for JobEngine, with a stop that drops no answer."""

import socket
import time
import warnings
from typing import Any

import structlog
from falcon import code_to_http_status
from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask

from jobengine.api import problems

# Bytes that waitress gathers before a worker thread sends. At its default of 1 the
# main loop spins while a worker is inside send(), and takes the GIL from every other
# thread: 64 clients got 269 creates a second instead of 3,092.
_SEND_BYTES = 64 * 1024
# A body or an answer above these would go to an unencrypted temporary file: never.
_NEVER_SPILL = 1 << 40
# What may wait in memory for a slow client before its list is read on.
_OUTBUF_HIGH_WATERMARK = 1024 * 1024
# Above the app's own limit, so that the app's 413 is the one that clients meet.
_BODY_HEADROOM = 16
_CONNECTION_LIMIT = 1000
# A client that takes nothing of an answer for this long is cut off.
_STALLED_MILLISECONDS = 60_000
# How long a stop waits for answers in progress.
_DRAIN_SECONDS = 10.0

_log = structlog.get_logger("jobengine.http")


class _ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress ships no types
    """Answers a request that is no HTTP as problem+json, like every other error."""

    def execute(self) -> None:
        error = self.request.error
        self.status = code_to_http_status(error.code)
        body = problems.body(error.code, error.reason, detail=str(error.body))
        self.content_length = len(body)
        self.response_headers.extend(
            [("Content-Type", problems.MEDIA_TYPE), ("Cache-Control", "no-store")]
        )
        self.set_close_on_finish()
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress ships no types
    error_task_class = _ProblemTask

    def idle(self) -> bool:
        """Whether there is nothing to answer and nothing left to send."""
        return not self.requests and not self.total_outbufs_len


class HttpServer:
    """Serves a WSGI application with waitress until `stop`."""

    def __init__(
        self, app: Any, *, host: str, port: int, threads: int, max_body_bytes: int
    ) -> None:
        """Binds the address. Raises OSError where it cannot."""
        self._stopping = False
        self._sockets: dict[int, Any] = {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "send_bytes", DeprecationWarning)
            self._server = create_server(
                app,
                map=self._sockets,
                host=host,
                port=port,
                threads=threads,
                ident=None,
                send_bytes=_SEND_BYTES,
                inbuf_overflow=_NEVER_SPILL,
                outbuf_overflow=_NEVER_SPILL,
                outbuf_high_watermark=_OUTBUF_HIGH_WATERMARK,
                max_request_body_size=max_body_bytes * _BODY_HEADROOM,
                connection_limit=_CONNECTION_LIMIT,
                asyncore_use_poll=True,
                log_socket_errors=False,
            )
        for listener in self._listeners():
            listener.channel_class = _Channel
            listener.adj.socket_options = _socket_options()

    def addresses(self) -> list[str]:
        """The URLs that it answers at."""
        return [
            f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            for host, port in (
                (listener.effective_host, listener.effective_port) for listener in self._listeners()
            )
        ]

    def serve(self) -> None:
        """Serves until `stop`, then answers what it has accepted, and returns."""
        while not self._stopping:
            wasyncore.poll2(1.0, self._sockets)
        self._drain()

    def stop(self) -> None:
        """Makes `serve` return soon; may be called from a signal handler."""
        self._stopping = True
        for listener in self._listeners():
            listener.pull_trigger()

    def _drain(self) -> None:
        """Stops accepting, and turns the loop until every answer has left.

        waitress's own shutdown ends the loop first, which would hold back what is in
        its buffers.
        """
        for listener in self._listeners():
            listener.accepting = False
            listener.del_channel(self._sockets)
            listener.socket.close()
        deadline = time.monotonic() + _DRAIN_SECONDS
        while self._close_idle() and time.monotonic() < deadline:
            wasyncore.poll2(0.1, self._sockets)
        unanswered = self._close_idle()
        if unanswered:
            _log.warning("stopped without answering everything", connections=unanswered)
        self._server.task_dispatcher.shutdown(timeout=1)

    def _close_idle(self) -> int:
        """Closes the connections that wait for nothing; how many others there are."""
        channels = [s for s in self._sockets.values() if isinstance(s, _Channel)]
        for channel in channels:
            if channel.idle():
                channel.will_close = True
        return len(channels)

    def _listeners(self) -> list[Any]:
        return [s for s in self._sockets.values() if isinstance(s, BaseWSGIServer)]


def _socket_options() -> list[tuple[int, int, int]]:
    options = [(socket.SOL_TCP, socket.TCP_NODELAY, 1)]
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        options.append((socket.SOL_TCP, socket.TCP_USER_TIMEOUT, _STALLED_MILLISECONDS))
    return options
