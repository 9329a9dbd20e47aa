"""A connection, as waitress has it, made to fit JobEngine."""

import time
from typing import Any

from falcon import code_to_http_status
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask, WSGITask

from jobengine.api import problems
from jobengine.cli.fibers import Fibers


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


class _Task(WSGITask):  # type: ignore[misc]  # waitress ships no types
    def set_close_on_finish(self) -> None:
        """Keeps the connection after a 204, which waitress closes for its want of a length."""
        asked = self.request.headers.get("CONNECTION", "").lower() == "close"
        if asked or self.has_body or self.version != "1.1":
            super().set_close_on_finish()


class _Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress ships no types
    def parse_header(self, header_plus: bytes) -> None:
        """Refuses what waitress lets urlsplit raise for, such as `GET http://[::1/`."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError("Malformed request target") from error


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress ships no types
    """One connection.

    Its requests may be answered in a fiber on the main thread, and a client that
    stopped sending while its request was worked on is noticed, and answered all the same.
    """

    task_class = _Task
    error_task_class = _ProblemTask
    parser_class = _Parser
    fibers: Fibers
    sending_ended = False

    def idle(self) -> bool:
        """Whether there is nothing to answer and nothing left to send."""
        return not self.requests and not self.total_outbufs_len

    def service(self) -> None:
        """Answers a request; in a fiber, sends the answer at once."""
        super().service()
        if self.sending_ended and not self.requests:
            self.close_when_flushed = True
            self.server.pull_trigger()
        if self.fibers.inside() and self.connected:
            self.handle_write()

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
            self.last_activity = time.time()  # which waitress compares with time.time()
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


def channel_class(fibers: Fibers) -> type[Any]:
    """The class of connections whose requests run in these fibers."""
    return type("_Channel", (Channel,), {"fibers": fibers})
