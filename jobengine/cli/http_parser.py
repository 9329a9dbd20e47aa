"""Requests, as waitress reads them, but for those that two readers could take for two things.

A proxy in front may see another body's end, another host or another caller in them than
the server behind it: request smuggling (RFC 9112, sections 3.2, 6.1 and 11.2).
"""

import re
from collections.abc import Sequence

from waitress.parser import HTTPRequestParser, ParsingError

# Above what any client sends; a thousand connections may each fill it and wait.
HEAD_BYTES_MAX = 32 * 1024

NO_HOST = "expected one Host"
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


def repeated(name: str) -> str:
    """What to say of a header that is there twice."""
    return f"expected {name.title()} once"


class Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress ships no types
    """Refuses more than waitress does."""

    def parse_header(self, header_plus: bytes) -> None:
        """Reads the head of a request. Raises ParsingError."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # urlsplit's, of `GET http://[::1/`
            raise ParsingError("Malformed request target") from error
        mistake = self._mistake(header_plus)
        if mistake is not None:
            raise ParsingError(mistake)

    def _mistake(self, head: bytes) -> str | None:
        headers, version = self.headers, self.version
        # waitress takes the one out of its headers, and the other for the truth.
        codings = _CODINGS.findall(head)
        length = "CONTENT_LENGTH" in headers
        mistake = framing_mistake(codings, length=length, version=version) if codings else None
        if mistake is not None:
            return mistake
        if version == "1.1" and "HOST" not in headers:
            return NO_HOST
        for name in ONCE:
            if "," in headers.get(name, "") and _times(head, name) > 1:
                return repeated(name)
        return None


def _times(head: bytes, name: str) -> int:
    return len(re.findall(rb"\r\n" + name.encode() + rb":", head, re.IGNORECASE))
