"""A connection, as waitress has it, made to fit JobEngine."""

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from falcon import code_to_http_status
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import Error

from jobengine.api import problems
from jobengine.cli.fibers import Fibers
from jobengine.cli.http_bodies import BodyParser, BodyRoom, NoRoom, Refused
from jobengine.cli.pace import Pace
from jobengine.domain.clock import SystemSource
from jobengine.domain.errors import Busy, JobEngineError

clock = SystemSource()
_log = structlog.get_logger(component="http")

# What the application adds to each answer of its own (api/app.py).
HEADERS = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]


class _Closing:
    """Says that the connection closes, once the rest of a refused body has come.

    A connection that is closed with something unread is reset, and the client would never
    see the answer.
    """

    channel: "Channel"

    def set_close_on_finish(self) -> None:
        super().set_close_on_finish()  # type: ignore[misc]  # waitress's task
        if self.channel.rest is not None:
            self.channel.closes = True
            self.close_on_finish = self.channel.rest is None  # it may have come just now


class _ProblemTask(_Closing, ErrorTask):  # type: ignore[misc]  # waitress ships no types
    """Answers a request that is no HTTP as problem+json, like every other error."""

    def execute(self) -> None:
        error = self.request.error
        _log.debug("refused", status=error.code, address=self.channel.addr[0])
        self.status = code_to_http_status(error.code)
        if isinstance(error, NoRoom):
            body = msgspec.json.encode(problems.of(Busy(error.body)))
            self.response_headers.append(("Retry-After", str(problems.RETRY_AFTER_SECONDS)))
        else:
            body = problems.body(error.code, error.reason, detail=str(error.body))
            self.set_close_on_finish()
        self.content_length = len(body)
        self.response_headers.extend([("Content-Type", problems.MEDIA_TYPE), *HEADERS])
        self.write(body)


class _Task(_Closing, WSGITask):  # type: ignore[misc]  # waitress ships no types
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
    fibers: Fibers
    pace: Pace
    room: BodyRoom
    wants_body: Callable[[dict[str, Any]], bool]
    request: Any
    sending_ended = False
    # A refused body that is still coming, what of it was read with its head, and whether the
    # connection is closed after it.
    rest: Refused | None = None
    begun = b""
    closes = False
    # When the request that is being read began, or the channel last answered another.
    began = 0.0
    # Bytes sent, and how many they were when it was last looked whether some are taken.
    sent = sent_then = 0
    looked: float | None = None

    def parser_class(self, adj: Any) -> BodyParser:
        """Called by waitress for each request, as a class would be."""
        return BodyParser(adj, self)

    def admits(self, parser: BodyParser) -> bool:
        """Whether the application will read the body after this head."""
        return type(self).wants_body(WSGITask(self, parser).get_environment())

    def refuse_body(self, body: Refused, begun: bytes) -> None:
        """Has a body dropped, of which `begun` has been read already."""
        self.rest, self.begun = body, begun
        self.began = clock.elapsed()

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
        taken = False
        while data:
            if self.rest is not None:
                data = self._drop(self.rest, data)
                continue
            before = self.request
            taken = bool(super().received(data))
            if self.request is not None and self.request is not before:
                self.began = clock.elapsed()
            data, self.begun = self.begun, b""
        return taken

    def _drop(self, body: Refused, data: bytes) -> bytes:
        """Drops what belongs to a refused body; gives what comes after it."""
        after = body.drop(data)
        if body.ended:
            self.rest = None
        if body.endless or (body.ended and self.closes):
            self._end_input()
            return b""
        return after

    def _end_input(self) -> None:
        """Reads no more; closes the connection once everything is answered."""
        self.sending_ended = True
        if not self.requests:
            self.close_when_flushed = True

    def send(self, data: bytes, do_close: bool = True) -> int:
        """Sends, and counts what the client takes."""
        sent = int(super().send(data, do_close))
        self.sent += sent
        return sent

    def look(self, now: float) -> None:
        """Ends a request that is not whole in time, and an answer that is not taken."""
        self._look_at_request(now)
        if self.connected:
            self._look_at_answer(now)

    def _look_at_request(self, now: float) -> None:
        if self.requests:
            self.began = now  # it is not read on, however much the client sends
        elif self.rest is not None:
            if now - self.began > self.pace.whole:
                self.handle_close()
        elif self.request is not None:
            headed = self.request.headers_finished
            if now - self.began > (self.pace.whole if headed else self.pace.seconds):
                self._give_up_request()

    def _look_at_answer(self, now: float) -> None:
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
        self._end_input()

    def handle_write(self) -> None:
        """Sends; ends its own side after an answer that says so, before the client's has."""
        super().handle_write()
        if self.closes and not self.requests and not self.total_outbufs_len and self.connected:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)

    def handle_close(self) -> None:
        """Closes the connection, and frees what was read of bodies."""
        super().handle_close()
        for request in (self.request, *self.requests[1:]):
            if request is not None:
                request.forget()

    def check_client_disconnected(self) -> bool:
        """Whether the client has gone, or will send no more: no job is to wait for it."""
        return self.sending_ended or not self.connected

    def _flush_outbufs_below_high_watermark(self) -> None:
        # Waits for the main thread to send; on it, that would be forever.
        if not self.fibers.inside():
            super()._flush_outbufs_below_high_watermark()


def channel_class(
    fibers: Fibers, pace: Pace, wants_body: Callable[[dict[str, Any]], bool]
) -> type[Any]:
    """The class of connections whose requests run in these fibers, of clients at that pace.

    `wants_body` says of a WSGI environment whether the application will read the body.
    """
    room = BodyRoom(pace.body_max_bytes)
    members = {"fibers": fibers, "pace": pace, "room": room, "wants_body": staticmethod(wants_body)}
    return type("_Channel", (Channel,), members)
