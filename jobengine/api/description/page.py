"""The document as a page, without anything from elsewhere."""

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

_CODE = re.compile(r"`([^`]+)`")
_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minItems": "at least {} of them",
    "maxItems": "at most {} of them",
    "format": "{}",
}


def render(document: Mapping[str, Any]) -> str:
    """The page of the document, as HTML."""
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(prose=_prose, json=_json, type=_type, bounds=_bounds, phrase=_phrase)
    return environment.get_template("docs.html").render(
        document=document,
        calls=list(_calls(document)),
        responses=document["components"]["responses"],
        headers=document["components"]["headers"],
        schemas=document["components"]["schemas"],
    )


def _calls(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each operation with its method and its path; HEAD goes without saying."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method != "head":
                yield {"method": method.upper(), "path": path, **operation}


def _prose(text: str) -> Markup:
    """Text with code between backticks."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  escaped before


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _phrase(status: str) -> str:
    """What HTTP calls a status."""
    return HTTPStatus(int(status)).phrase


def _type(schema: Mapping[str, Any]) -> Markup:
    """A schema in a few words, with links to those that have a name."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#{0}">{0}</a>').format(name)
    if "anyOf" in schema:
        return Markup(" or ").join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return Markup(", ").join(Markup("<code>{}</code>").format(v) for v in schema["enum"])
    if schema.get("type") == "array":
        return Markup("array of {}").format(_type(schema["items"]))
    if schema.get("additionalProperties"):
        return Markup("object of {}").format(_type(schema["additionalProperties"]))
    return escape(schema.get("type", "any"))


def _bounds(schema: Mapping[str, Any]) -> str:
    """The bounds of a schema, of the first part that has any."""
    parts = (schema, *schema.get("anyOf", ()))
    found = [
        text.format(part[key]) for part in parts for key, text in _BOUNDS.items() if key in part
    ]
    return ", ".join(found)
