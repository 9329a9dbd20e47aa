"""Requests, as waitress reads them, but for those that two readers could take for two things.

A proxy in front may see another body's end, another host or another caller in them than
the server behind it: request smuggling (RFC 9112, sections 3.2, 6.1 and 11.2).
"""

import re
from collections.abc import Sequence

from waitress import receiver
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import BadRequest, Error

# Their `$` also matches before a last LF: `5\n\r\n` would be one size here, and a size and an
# empty line to a proxy that takes a bare LF for the end of one.
receiver.ONLY_HEXDIG_RE = re.compile(rb"[0-9a-fA-F]+\Z")
receiver.CHUNK_EXT_RE = re.compile(receiver.CHUNK_EXT_RE.pattern.removesuffix(b"$") + rb"\Z")

# Above what any client sends; a thousand connections may each fill it and wait.
HEAD_BYTES_MAX = 32 * 1024

# What waitress gathers of a chunk's size with its extensions, or of the trailer, and goes through
# again at each read.
_CHUNK_LINE_BYTES_MAX, _TRAILER_BYTES_MAX = 4 * 1024, 16 * 1024

NO_HOST = "expected one Host"
_NO_REQUEST = "expected an HTTP/1.1 request; this port speaks plain HTTP"
_LINE_ENDS = "expected each line of the head to end with CRLF"
_VERSIONS = ("1.0", "1.1")
# RFC 9110, section 5.6.2: what a method consists of. Empty lines may come before it.
_TOKEN = frozenset(
    b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz\r\n"
)
_REQUEST_LINE = re.compile(rb"[^ ]+ [^ ]+ HTTP/[0-9]\.[0-9]\r?")
# RFC 9112, section 3.2: a path, or an absolute URI, whose path may be missing.
_TARGET = re.compile(r"(?:https?://[^/?#]+)?(?:/[!-\"$-~]*)?", re.IGNORECASE)
# RFC 3986, section 3.2, without userinfo (RFC 9110, section 4.2.4); may be empty.
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?", re.ASCII)
_CODINGS = re.compile(rb"\r\ntransfer-encoding:([^\r]*)", re.IGNORECASE)
# A name that the application looks for, where a second one with a comma would go unnoticed.
# X-Name, X-Queue and X-Status-Filter never have one (domain/queue.py).
ONCE = ("HOST", "AUTHORIZATION")


def framing_mistake(codings: Sequence[bytes], *, length: bool, version: str) -> str | None:
    """What is wrong with how the body's end is told; None where nothing is.

    `codings` are the values of Transfer-Encoding, one a line; `length` is whether there is a
    Content-Length, too.
    """
    if version != "1.1":
        return "expected no Transfer-Encoding in HTTP/1.0"
    if length:
        return "expected Content-Length or Transfer-Encoding, not both"
    if [coding.strip(b" \t").lower() for coding in codings] != [b"chunked"]:
        return "expected Transfer-Encoding once, and chunked"
    return None


def mistake_in_chunks(chunks: receiver.ChunkedReceiver) -> str | None:
    """What is wrong with the part of a chunked body that waitress still gathers."""
    line = chunks.control_line
    if b"\n" in line or len(line) > _CHUNK_LINE_BYTES_MAX:
        return "expected each chunk's size before CRLF"
    if len(chunks.trailer) > _TRAILER_BYTES_MAX:
        return f"expected a trailer of at most {_TRAILER_BYTES_MAX} bytes"
    return None


def repeated(name: str) -> str:
    """What to say of a header that is there twice."""
    return f"expected {name.title()} once"


class _NoSuchVersion(Error):  # type: ignore[misc]  # waitress ships no types
    code = 505
    reason = "HTTP Version Not Supported"


class _ExpectationFailed(Error):  # type: ignore[misc]  # waitress ships no types
    code = 417
    reason = "Expectation Failed"


class Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress ships no types
    """Refuses more than waitress does, and sooner."""

    # What to answer instead of the 400 that waitress makes of every ParsingError.
    refusal: Error | None = None
    completed: bool  # waitress's own
    path: str

    def received(self, data: bytes) -> int:
        """Takes in what was read; gives how many bytes of it belong to this request."""
        in_head = self.body_rcv is None
        if in_head and not self.header_plus and data[0] not in _TOKEN:
            self._refuse(BadRequest(_NO_REQUEST))  # TLS, say, which would wait for an answer
            return len(data)
        taken = int(super().received(data))
        if self.refusal is not None:
            self.error = self.refusal
        if in_head and not self.headers_finished and not self.completed:
            mistake = _mistake_in_first_line(self.header_plus)
            if mistake is not None:
                self._refuse(BadRequest(mistake))
        elif self.chunked and not self.completed:
            mistake = mistake_in_chunks(self.body_rcv)
            if mistake is not None:
                self.error, self.completed = BadRequest(mistake), True
        return taken

    def parse_header(self, header_plus: bytes) -> None:
        """Reads the head of a request. Raises ParsingError."""
        mistake = _mistake_in_lines(header_plus)
        if mistake is not None:
            raise ParsingError(mistake)
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # urlsplit's, of `GET http://[::1/`
            raise ParsingError("Malformed request target") from error
        self.refusal = self._unsupported()
        if self.refusal is not None:
            raise ParsingError(self.refusal.body)
        mistake = self._framing(header_plus) or self._target() or self._names(header_plus)
        if mistake is not None:
            raise ParsingError(mistake)
        self._settle_connection()

    def _refuse(self, error: Error) -> None:
        super().parse_header(b"GET / HTTP/1.0\r\n")  # as waitress does at its limit
        self.error, self.completed = error, True

    def _unsupported(self) -> Error | None:
        """What the request wants that this server does not know."""
        if self.version not in _VERSIONS:
            return _NoSuchVersion("expected HTTP/1.1") if self.version else BadRequest(_NO_REQUEST)
        expected = self.headers.get("EXPECT", "")
        if expected and expected.lower() != "100-continue" and self.version == "1.1":
            return _ExpectationFailed("expected 100-continue in Expect, and nothing else")
        return None

    def _framing(self, head: bytes) -> str | None:
        # waitress takes the one out of its headers, and the other for the truth.
        codings = _CODINGS.findall(head)
        length = "CONTENT_LENGTH" in self.headers
        return framing_mistake(codings, length=length, version=self.version) if codings else None

    def _target(self) -> str | None:
        """What is wrong with the target; an absolute one also says which host is meant."""
        target = self.request_uri
        if target == "*" and self.command == "OPTIONS":
            return None
        if not _TARGET.fullmatch(target) or self.path.startswith("//"):
            return "expected a target that begins with one slash, in ASCII without a fragment"
        if self.proxy_netloc:
            self.headers["HOST"] = self.proxy_netloc  # RFC 9112, section 3.2.2
            self.path = self.path or "/"
        return None

    def _names(self, head: bytes) -> str | None:
        headers = self.headers
        if self.version == "1.1" and "HOST" not in headers:
            return NO_HOST
        for name in ONCE:
            if "," in headers.get(name, "") and _times(head, name) > 1:
                return repeated(name)
        if not _HOST.fullmatch(headers.get("HOST", "")):
            return "expected a host name or an address in Host, and no more than a port after it"
        return None

    def _settle_connection(self) -> None:
        """Leaves of Connection the one option that waitress compares it with.

        It is a list of options, on one line or on several (RFC 9110, section 7.6.1).
        """
        value = self.headers.get("CONNECTION")
        if value is None:
            return
        options = {option.strip(" \t").lower() for option in value.split(",")}
        for option in ("close", "keep-alive"):
            if option in options:
                self.headers["CONNECTION"] = option
                self.connection_close = option == "close"
                return


def _mistake_in_first_line(head: bytes) -> str | None:
    """What is wrong with a first line that has come as a whole: nobody waits for the others."""
    line, end, _ = head.lstrip(b"\r\n").partition(b"\n")
    if not end or (_REQUEST_LINE.fullmatch(line) and line.endswith(b"\r")):
        return None
    return _LINE_ENDS if _REQUEST_LINE.fullmatch(line) else _NO_REQUEST


def _mistake_in_lines(head: bytes) -> str | None:
    """What is wrong with the lines of a head, which waitress would repeat in its answer."""
    ends = head.count(b"\r\n")
    if head.count(b"\n") != ends or head.count(b"\r") != ends:
        return _LINE_ENDS
    if b"\r\n " in head or b"\r\n\t" in head:
        return "expected each header on one line"  # RFC 9112, section 5.2
    return None


def _times(head: bytes, name: str) -> int:
    return len(re.findall(rb"\r\n" + name.encode() + rb":", head, re.IGNORECASE))
