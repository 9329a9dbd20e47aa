"""A connection, as waitress has it, made to fit JobEngine."""

from typing import Any

import structlog
from falcon import code_to_http_status
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import Error

from jobengine.api import problems
from jobengine.cli.fibers import Fibers
from jobengine.cli.http_parser import Parser
from jobengine.cli.pace import Pace
from jobengine.domain.clock import SystemSource
from jobengine.domain.errors import JobEngineError

clock = SystemSource()
_log = structlog.get_logger(component="http")

# What the application adds to each answer of its own (api/app.py).
HEADERS = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]


class _ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress ships no types
    """Answers a request that is no HTTP as problem+json, like every other error."""

    def execute(self) -> None:
        error = self.request.error
        _log.debug("refused", status=error.code, address=self.channel.addr[0])
        self.status = code_to_http_status(error.code)
        body = problems.body(error.code, error.reason, detail=str(error.body))
        self.content_length = len(body)
        self.response_headers.extend([("Content-Type", problems.MEDIA_TYPE), *HEADERS])
        self.set_close_on_finish()
        self.write(body)


class _Task(WSGITask):  # type: ignore[misc]  # waitress ships no types
    def service(self) -> None:
        """Answers; where a list is broken off, ends the connection without the last chunk."""
        try:
            super().service()
        except JobEngineError:  # logged by the list
            self.close_on_finish = True

    def set_close_on_finish(self) -> None:
        """Keeps the connection after a 204, which waitress closes for its want of a length."""
        asked = self.request.headers.get("CONNECTION", "").lower() == "close"
        if asked or self.has_body or self.version != "1.1":
            super().set_close_on_finish()

    def finish(self) -> None:
        """Ends the answer; that to a HEAD has no chunks, so it has no last one either."""
        if not self.wrote_header:
            self.write(b"")
        if self.request.command != "HEAD":
            super().finish()


class _TooSlow(Error):  # type: ignore[misc]  # waitress ships no types
    code = 408
    reason = "Request Timeout"


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress ships no types
    """One connection.

    Its requests may be answered in a fiber on the main thread, and a client that
    stopped sending while its request was worked on is noticed, and answered all the same.
    """

    task_class = _Task
    error_task_class = _ProblemTask
    parser_class = Parser
    fibers: Fibers
    pace: Pace
    request: Any
    sending_ended = False
    # When the request that is being read began, or the channel last answered another.
    began = 0.0
    # Bytes sent, and how many they were when it was last looked whether some are taken.
    sent = sent_then = 0
    looked: float | None = None

    def idle(self) -> bool:
        """Whether there is nothing to answer and nothing left to send."""
        return not self.requests and not self.total_outbufs_len

    def service(self) -> None:
        """Answers a request; in a fiber, sends the answer at once."""
        super().service()
        if self.request is not None:
            self.began = clock.elapsed()
        if self.sending_ended and not self.requests:
            self.close_when_flushed = True
            self.server.pull_trigger()
        if self.fibers.inside() and self.connected:
            self.handle_write()

    def received(self, data: bytes) -> bool:
        """Takes in what was read, and notes when a request began that is not whole yet."""
        before = self.request
        taken = bool(super().received(data))
        if self.request is not None and self.request is not before:
            self.began = clock.elapsed()
        return taken

    def send(self, data: bytes, do_close: bool = True) -> int:
        """Sends, and counts what the client takes."""
        sent = int(super().send(data, do_close))
        self.sent += sent
        return sent

    def look(self, now: float) -> None:
        """Ends a request that is not whole in time, and an answer that is not taken."""
        if self.requests:
            self.began = now  # it is not read on, however much the client sends
        elif self.request is not None:
            headed = self.request.headers_finished
            if now - self.began > (self.pace.whole if headed else self.pace.seconds):
                self._give_up_request()
        if not self.total_outbufs_len:
            self.looked = None
        elif self.looked is None:
            self.looked, self.sent_then = now, self.sent
        elif now - self.looked > self.pace.seconds:
            if self.sent - self.sent_then < self.pace.taken_bytes:
                self.handle_close()  # no will_close, which waits until it can be written to
                return
            self.looked, self.sent_then = now, self.sent

    def _give_up_request(self) -> None:
        with self.requests_lock:
            request, self.request = self.request, None
            if not request.headers_finished:
                request.parse_header(b"GET / HTTP/1.0\r\n")  # as waitress does at its limit
            request.error = _TooSlow(f"expected the request within {self.pace.seconds} seconds")
            request.completed = True
            self.requests.append(request)
        self.server.add_task(self)

    def readable(self) -> bool:
        """Whether to wait for more from the client."""
        return not self.sending_ended and super().readable()

    def handle_read(self) -> None:
        """Reads; an end is no reason to drop an answer that is still to come."""
        try:
            data = self.socket.recv(self.adj.recv_bytes)
        except BlockingIOError:
            return
        except OSError:
            self.handle_close()
            return
        if data:
            self.last_activity = clock.wall()  # which waitress compares with the time of the system
            self.received(data)
            return
        self.sending_ended = True
        if not self.requests:
            self.close_when_flushed = True

    def check_client_disconnected(self) -> bool:
        """Whether the client has gone, or will send no more: no job is to wait for it."""
        return self.sending_ended or not self.connected

    def _flush_outbufs_below_high_watermark(self) -> None:
        # Waits for the main thread to send; on it, that would be forever.
        if not self.fibers.inside():
            super()._flush_outbufs_below_high_watermark()


def channel_class(fibers: Fibers, pace: Pace) -> type[Any]:
    """The class of connections whose requests run in these fibers, of clients at that pace."""
    return type("_Channel", (Channel,), {"fibers": fibers, "pace": pace})
