"""Bodies: JSON to structs, with the first mistakes in a body reported together.

What a field is expected to be is the description of its type, which the description of
the API shows as well.
"""

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.structs import FieldInfo

from jobengine.domain.errors import InvalidInput, Mistake
from jobengine.domain.job import Content

T = TypeVar("T", bound=Struct)

BULK_MAX = 1000
_ELEMENTS = f"an array of 1 to {BULK_MAX} JSON objects"

_fields = msgspec.json.Decoder(dict[str, Raw])
_elements = msgspec.json.Decoder(list[Raw])


def array_of(struct: type[T]) -> Any:
    """The type of a body with many of them."""
    return Annotated[list[struct], Meta(min_length=1, max_length=BULK_MAX)]  # type: ignore[valid-type]  # made at run time


class Body(Generic[T]):
    """How to read a body: one object, or an array of 1 to BULK_MAX of them."""

    def __init__(self, struct: type[T]) -> None:
        """Every field's type has a description, which completes "expected …"."""
        self._fields = {field.name: field for field in msgspec.structs.fields(struct)}
        self._one = msgspec.json.Decoder(struct)
        self._many: msgspec.json.Decoder[list[T]] = msgspec.json.Decoder(array_of(struct))
        self._has_content = "content" in struct.__struct_fields__

    def one(self, body: bytes) -> T:
        """The object in the body. Raises InvalidInput with the first mistakes in it."""
        parsed: T = self._decode(self._one, body)
        if self._has_content and not _fits_content(parsed):
            raise InvalidInput(self._mistakes(body))
        return parsed

    def many(self, body: bytes) -> list[T]:
        """The objects in the body's array. Raises InvalidInput with the first mistakes in it."""
        parsed: list[T] = self._decode(self._many, body)
        if self._has_content and not all(map(_fits_content, parsed)):
            raise InvalidInput(self._mistakes_of_array(body))
        return parsed

    def _decode(self, decoder: Any, body: bytes) -> Any:
        try:
            body.decode("utf-8")  # msgspec does not look inside a Raw
            return decoder.decode(body)
        except msgspec.ValidationError as error:
            array = decoder is self._many
            raise InvalidInput(
                self._mistakes_of_array(body) if array else self._mistakes(body)
            ) from error
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
            raise InvalidInput([_malformed(error, body, decoder is self._many)]) from error

    def _mistakes(self, body: bytes) -> Iterator[Mistake]:
        """The mistakes in a body that is JSON but not the struct; off the hot path."""
        try:
            fields = _fields.decode(body)
        except msgspec.ValidationError:
            yield Mistake("pointer", "", "expected a JSON object")
        except (msgspec.DecodeError, RecursionError) as error:
            yield _malformed(error, body, array=False)
        else:
            yield from _mistakes_of(self._fields, fields, "")

    def _mistakes_of_array(self, body: bytes) -> Iterator[Mistake]:
        try:
            elements = _elements.decode(body)
        except msgspec.ValidationError:
            yield Mistake("pointer", "", f"expected {_ELEMENTS}")
        except (msgspec.DecodeError, RecursionError) as error:
            yield _malformed(error, body, array=True)
        else:
            if 1 <= len(elements) <= BULK_MAX:
                yield from self._mistakes_in(elements)
            else:
                yield Mistake("pointer", "", f"expected {_ELEMENTS}, got {len(elements)}")

    def _mistakes_in(self, elements: Sequence[Raw]) -> Iterator[Mistake]:
        for index, element in enumerate(elements):
            if not _is_object(element):
                yield Mistake("pointer", f"/{index}", "expected a JSON object")
            elif not self._decodes(element):
                yield from _mistakes_of(self._fields, _fields.decode(element), f"/{index}")

    def _decodes(self, element: Raw) -> bool:
        try:
            parsed = self._one.decode(element)
        except msgspec.ValidationError:
            return False
        return not self._has_content or _fits_content(parsed)


def _fits_content(parsed: Any) -> bool:
    return parsed.content is UNSET or _is_object(parsed.content)


def _malformed(error: Exception, body: bytes, array: bool) -> Mistake:
    if body[:3] == BOM_UTF8:
        reason = "it begins with a byte order mark, send UTF-8 without one"
    elif body[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) or b"\0" in body[:4]:
        reason = "it is UTF-16 or UTF-32, send UTF-8"
    elif isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    elif isinstance(error, UnicodeDecodeError):
        reason = f"it is not UTF-8 (byte {error.start})"
    else:
        reason = str(error) if body else "the body is empty"
    expected = _ELEMENTS if array else "a JSON object"
    return Mistake("pointer", "", f"expected {expected}: {reason}")


def _mistakes_of(
    known: Mapping[str, FieldInfo], values: Mapping[str, Raw], place: str
) -> Iterator[Mistake]:
    good = True
    for name in values:
        if name not in known:
            good = False
            yield Mistake("pointer", place + _pointer(name), _unknown(name, known))
    for name, field in known.items():
        missing = name not in values
        if field.required if missing else not _fits(values[name], field.type):
            good = False
            detail = f"{'missing, ' if missing else ''}expected {_expected(field.type)}"
            yield Mistake("pointer", f"{place}/{name}", detail)
    if good:  # each field's last value fits, so an earlier one of the same name did not
        yield Mistake("pointer", place, "expected each field once")


def _expected(type_: Any) -> str:
    """The description of a field's type, which may stand in a union with UnsetType."""
    notes = [
        note
        for part in (type_, *get_args(type_))
        for note in getattr(part, "__metadata__", ())
        if isinstance(note, Meta)
    ]
    return next(note.description for note in notes if note.description is not None)


def _fits(value: Raw, type_: Any) -> bool:
    if type_ in (Content, Content | UnsetType):
        return _is_object(value)
    try:
        msgspec.json.decode(value, type=type_)
    except (msgspec.ValidationError, RecursionError):
        return False
    return True


def _is_object(value: Raw) -> bool:
    return bytes(memoryview(value)[:1]) == b"{"


def _unknown(name: str, known: Mapping[str, FieldInfo]) -> str:
    if name == "state" and "status" in known:
        return "unknown field: in an update it is called status"
    return f"unknown field, expected {', '.join(known)}"


def _pointer(name: str) -> str:
    """The JSON pointer of a field (RFC 6901, section 3)."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
