"""What a page's query or form says, read with bounds."""

from collections.abc import Mapping
from urllib.parse import parse_qs

import falcon
from falcon import Request
from falcon.media.multipart import MultipartFormHandler, MultipartParseOptions

from jobengine.domain.errors import InvalidInput, Mistake

# A page sends a box for each of its jobs, and a few fields.
_FIELDS_MAX = 2_000
_TYPE = "application/x-www-form-urlencoded"
_PARTS = "multipart/form-data"
# For the other fields of a form in parts, and what stands between them.
_PARTS_ROOM = 16 * 1024


class Form:
    """The fields of a form or of a query; those that are empty are as good as not there."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self._fields = fields

    def text(self, name: str, default: str = "") -> str:
        """The field's first value."""
        return self._fields.get(name, [default])[0]

    def all(self, name: str) -> list[str]:
        """Every value of the field."""
        return self._fields.get(name, [])

    def integer(self, name: str, low: int, high: int, expected: str = "") -> int | None:
        """The field as an integer within its bounds; None without one. Raises InvalidInput."""
        text = self.text(name).strip()
        if not text:
            return None
        digits = text.isascii() and text.isdigit() and len(text) <= len(str(high))
        if digits and low <= int(text) <= high:
            return int(text)
        raise mistake(name, expected or f"an integer from {low} to {high}")


def mistake(name: str, expected: str) -> InvalidInput:
    """What is wrong with a field."""
    return InvalidInput([Mistake("parameter", name, f"expected {expected}")])


def query(req: Request) -> Form:
    """The query of the address. Raises InvalidInput."""
    return _parsed(req.query_string)


def body(req: Request, limit: int) -> Form:
    """The form that was sent, of at most `limit` bytes.

    Raises InvalidInput, and Falcon's 413 and 415.
    """
    _check_type(req, _TYPE)
    if (req.content_length or 0) > limit:
        raise falcon.HTTPContentTooLarge(description=f"A form may have at most {limit} bytes.")
    data = req.bounded_stream.read(limit + 1)
    if len(data) > limit:
        raise falcon.HTTPContentTooLarge(description=f"A form may have at most {limit} bytes.")
    try:
        return _parsed(data.decode("ascii"))
    except UnicodeDecodeError:
        raise InvalidInput([Mistake("pointer", "", "expected a form")]) from None


def parts(req: Request, limit: int) -> Form:
    """As `body`, for a form with a long text, which comes in parts (multipart/form-data)."""
    _check_type(req, _PARTS)
    if (req.content_length or 0) > limit + _PARTS_ROOM:
        raise falcon.HTTPContentTooLarge(description=f"A form may have at most {limit} bytes.")
    handler = MultipartFormHandler(MultipartParseOptions())
    handler.parse_options.max_body_part_buffer_size = limit + _PARTS_ROOM
    fields: dict[str, list[str]] = {}
    try:
        form = handler.deserialize(req.bounded_stream, req.content_type, req.content_length)
        for part in form:
            fields.setdefault(part.name or "", []).append(part.get_data().decode("utf-8"))
    except (falcon.HTTPError, UnicodeDecodeError):
        raise InvalidInput([Mistake("pointer", "", "expected fields in UTF-8")]) from None
    return _form(fields)


def _check_type(req: Request, expected: str) -> None:
    if (req.content_type or "").partition(";")[0].strip() != expected:
        raise InvalidInput([Mistake("header", "Content-Type", f"expected {expected}")])
    if req.get_header("Content-Encoding", default="").lower() not in ("", "identity"):
        raise falcon.HTTPUnsupportedMediaType(
            description="A form is taken without any Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )


def _parsed(text: str) -> Form:
    try:
        return _form(parse_qs(text, max_num_fields=_FIELDS_MAX, errors="strict"))
    except ValueError:  # too many, or not UTF-8
        raise InvalidInput([Mistake("pointer", "", "expected fields in UTF-8")]) from None


def _form(fields: Mapping[str, list[str]]) -> Form:
    """The form of these fields. No name has a NUL in it, which PostgreSQL takes in no text."""
    for name, values in fields.items():
        if any("\0" in value for value in values):
            raise mistake(name, "text without NUL characters")
    return Form(fields)
