"""Bodies: none is kept that the application would not read, and a bounded sum of the others."""

from threading import Lock
from typing import Any, Protocol

from waitress.receiver import ChunkedReceiver
from waitress.utilities import Error

from jobengine.cli.http_parser import Parser, mistake_in_chunks

# A body up to here is read before anybody is asked about it: a thousand make 16 MiB.
SMALL_BYTES = 16 * 1024
_ROOM_BYTES, _ROOM_BODIES = 64 * 1024 * 1024, 16


class NoRoom(Error):  # type: ignore[misc]  # waitress ships no types
    """Too many bodies are being received at once."""

    code = 503
    reason = "Too many calls of this kind at once"


class BodyRoom:
    """The memory for the bodies of all connections."""

    def __init__(self, max_body_bytes: int) -> None:
        """Of 64 MiB, or of sixteen bodies where those are more."""
        self._left = max(_ROOM_BYTES, _ROOM_BODIES * max_body_bytes)
        self._changing = Lock()

    def take(self, parser: "BodyParser", count: int) -> bool:
        """Lets the parser hold so many bytes more, where there is room."""
        with self._changing:
            if count > self._left:
                return False
            self._left -= count
            parser.held += count
            return True

    def give_back(self, parser: "BodyParser") -> None:
        """Frees what the parser holds; a second call does nothing."""
        with self._changing:
            self._left += parser.held
            parser.held = 0


class Refused:
    """The rest of a body that nobody reads, thrown away as it comes.

    A connection that is closed with something unread is reset, and a client that still sends
    would never see its answer.
    """

    def __init__(self, receiver: Any, most: int) -> None:
        """`receiver`, waitress's, knows where the body ends; `most` bytes of it are taken."""
        receiver.buf = _Nowhere()
        self._receiver = receiver
        self._left = most

    def drop(self, data: bytes) -> bytes:
        """Drops what belongs to it; gives what comes after it."""
        taken = int(self._receiver.received(data))
        self._left -= taken
        return data[taken:]

    @property
    def ended(self) -> bool:
        """Whether all of it has come."""
        return bool(self._receiver.completed and not self._receiver.error)

    @property
    def endless(self) -> bool:
        """Whether its end is not worth waiting for, or cannot be told."""
        if self.ended:
            return False
        chunked = isinstance(self._receiver, ChunkedReceiver)
        mistaken = chunked and mistake_in_chunks(self._receiver) is not None
        return self._left <= 0 or bool(self._receiver.error) or mistaken


class _Nowhere:
    """A buffer that keeps nothing."""

    def append(self, data: bytes) -> None:
        """Drops it."""

    def close(self) -> None:
        """There is nothing to free."""

    def __len__(self) -> int:
        return 0


class Gate(Protocol):
    """What a parser asks of its connection."""

    room: BodyRoom

    def admits(self, parser: "BodyParser") -> bool:
        """Whether the application will read the body after this head."""

    def refuse_body(self, body: Refused, begun: bytes) -> None:
        """Has a body dropped, of which `begun` has been read already."""


class BodyParser(Parser):
    """Asks about a large body when its head is complete, and counts what it keeps of it.

    A request whose body is refused is complete with its head: the application answers it.
    """

    # waitress's own
    body_rcv: Any
    content_length: int
    expect_continue: bool

    def __init__(self, adj: Any, gate: Gate) -> None:
        super().__init__(adj)
        self.held = 0
        self._gate = gate
        self._counted = False
        self._refused: Refused | None = None

    def parse_header(self, header_plus: bytes) -> None:
        """Reads the head of a request. Raises ParsingError."""
        super().parse_header(header_plus)
        if self.body_rcv is None:
            self.expect_continue = False  # or waitress would wait for the body that is none
            return
        self._counted = self.chunked or self.content_length > SMALL_BYTES
        if (self._counted or self.expect_continue) and not self._gate.admits(self):
            self._refuse_rest()

    def _refuse_rest(self) -> None:
        # Whether a client that waits for 100 still sends the body, nobody can tell.
        if self.expect_continue or self.content_length > self.adj.max_request_body_size:
            self.headers["CONNECTION"] = "close"
        self._refused = Refused(self.body_rcv, self.adj.max_request_body_size)
        self.body_rcv, self.content_length, self.expect_continue = None, 0, False

    def received(self, data: bytes) -> int:
        """Takes in what was read; gives how many bytes of it belong to this request."""
        in_body = self._counted and self.body_rcv is not None
        if in_body and not self._gate.room.take(self, len(data)):
            self.close()
            self._gate.refuse_body(Refused(self.body_rcv, self.adj.max_request_body_size), data)
            self.body_rcv = None
            self.error, self.completed = NoRoom("too many bodies are being received"), True
            return len(data)
        taken = int(super().received(data))
        if self._refused is None:
            return taken
        self._gate.refuse_body(self._refused, data[taken:])
        self._refused = None
        return len(data)

    def close(self) -> None:
        """Frees the body."""
        super().close()
        self._gate.room.give_back(self)

    def forget(self) -> None:
        """Frees the body of a request that nobody will work on.

        It and its connection know each other, so that Python would keep both for a while.
        """
        if self.body_rcv is not None:
            self.body_rcv.buf = _Nowhere()
        self._gate.room.give_back(self)
