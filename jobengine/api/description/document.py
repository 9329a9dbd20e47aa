"""The operations as an OpenAPI 3.1 document."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec
from apispec import APISpec

from jobengine import __version__
from jobengine.api import problems
from jobengine.api.description import fields, jobs, queues, server
from jobengine.api.description.operation import Answer, Examples, Header, Operation, Parameter
from jobengine.domain.errors import JobEngineError, TooMany, Unauthenticated, Unavailable

OPERATIONS: tuple[Operation, ...] = (
    *jobs.OPERATIONS,
    *queues.OPERATIONS,
    *server.OPERATIONS,
)
_ABOUT = (
    "A job queue over plain HTTP. Bodies are JSON in UTF-8, whatever their `Content-Type`; "
    "times are whole seconds since the Unix epoch; an integer has no decimal point. An error "
    "changes nothing, but for `outcome-unknown`."
)
_KEY = "key"
_JSON = "application/json"
# What the HTTP server itself may answer to any call, before or instead of the application.
_OF_HTTP = {
    408: "The request came too slowly.",
    417: "The request's Expect is unknown.",
    431: "The head of the request is too large.",
    500: "",
    501: "The request's Transfer-Encoding is unknown.",
    505: "The request is not in HTTP/1.1.",
}
_NOT_HTTP = problems.plain(400)
_COMPRESSED = problems.plain(415, "A body is taken without any Content-Encoding.")
_TOO_LARGE = problems.plain(413, "The body may have at most 16777216 bytes.")


def build(*, keys: bool, base: str = "") -> dict[str, Any]:
    """The document, for a server that asks for `keys`, or for one that believes X-Name.

    `base` is what clients write before each path.
    """
    servers: dict[str, Any] = {"servers": [{"url": base}]} if base else {}
    spec = APISpec("JobEngine", __version__, "3.1.0", info={"description": _ABOUT}, **servers)
    for name, schema in _schemas().items():
        spec.components.schema(name, schema)
    for header in (*fields.ALWAYS, *fields.COUNTED, fields.RETRY_AFTER, fields.CHALLENGE):
        spec.components.header(header.name, _header(header))
    for status, detail in _OF_HTTP.items():
        problem = problems.plain(status, detail)
        spec.components.response(_title(status), _problems([problem], ()))
    if keys:
        text = "A key, made by `jobengine keys create`."
        scheme = {"type": "http", "scheme": "bearer", "description": text}
        spec.components.security_scheme(_KEY, scheme)
    for tag in dict.fromkeys(operation.tag for operation in OPERATIONS):
        spec.tag({"name": tag})
    for path, operations in groupby(OPERATIONS, key=lambda operation: operation.path):
        spec.path(path, operations=dict(_methods(operations, keys=keys)))
    return spec.to_dict()


def _methods(operations: Iterable[Operation], *, keys: bool) -> Iterator[tuple[str, Any]]:
    for operation in operations:
        yield operation.method, _operation(operation, keys=keys)
        if operation.head:
            head = _operation(operation, keys=keys)
            head["operationId"] += "Head"
            for status, answer in head["responses"].items():
                head["responses"][status] = _without_body(status, answer)
            yield "head", head


def _without_body(status: str, answer: Any) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"description": _title(int(status)), "headers": _headers(fields.ALWAYS)}
    return {name: value for name, value in answer.items() if name != "content"}


def _operation(operation: Operation, *, keys: bool) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [_parameter(parameter, keys=keys) for parameter in operation.parameters],
        "responses": dict(sorted(_answers(operation, keys=keys))),
        "security": [{_KEY: []}] if keys and not operation.open else [],
    }
    if operation.description:
        described["description"] = operation.description
    if operation.body is not None:
        content = _content(operation.body.types, operation.body.examples)
        described["requestBody"] = {"required": True, "content": {_JSON: content}}
    return described


def _parameter(parameter: Parameter, *, keys: bool) -> dict[str, Any]:
    # A key names the service, too.
    required = parameter.required and not (keys and parameter.name == "X-Name")
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "required": required,
        "schema": _schema((parameter.type,)),
        "example": parameter.example,
    }


def _answers(operation: Operation, *, keys: bool) -> Iterator[tuple[str, Any]]:
    counted = () if operation.open else fields.COUNTED
    for answer in operation.answers:
        yield str(answer.status), _answer(answer, (*fields.ALWAYS, *counted))
    errors = operation.errors
    if not operation.open:
        errors += fields.WITH_KEYS + fields.ANY_CALL if keys else fields.ANY_CALL
    found: dict[int, list[problems.Problem]] = {400: [_NOT_HTTP]}
    headers: dict[int, tuple[Header, ...]] = {}
    for error in errors:
        problem = problems.of(error)
        found.setdefault(problem.status, []).append(problem)
        headers[problem.status] = counted + _own_headers(error)
    if operation.body is not None:
        found[413] = [_TOO_LARGE]
        found[415] = [_COMPRESSED]
    for status, listed in found.items():
        yield str(status), _problems(listed, headers.get(status, counted))
    for status in _OF_HTTP:
        yield str(status), _title(status)


def _own_headers(error: JobEngineError) -> tuple[Header, ...]:
    if isinstance(error, TooMany | Unavailable):
        return (fields.RETRY_AFTER,)
    return (fields.CHALLENGE,) if isinstance(error, Unauthenticated) else ()


def _answer(answer: Answer, headers: tuple[Header, ...]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": answer.description,
        "headers": _headers((*headers, *answer.headers)),
    }
    if answer.types:
        described["content"] = {answer.media_type: _content(answer.types, answer.examples)}
    return described


def _problems(found: Sequence[problems.Problem], headers: tuple[Header, ...]) -> dict[str, Any]:
    examples: dict[str, problems.Problem] = {}
    for problem in found:
        kind = problem.type.removeprefix(problems.TYPE)
        if problem.type == problems.NO_TYPE:
            kind = problem.title.lower().replace(" ", "-")
        number = sum(name.partition(" ")[0] == kind for name in examples)
        examples[f"{kind} {number + 1}" if number else kind] = problem
    return {
        "description": "; ".join(dict.fromkeys(problem.title for problem in found)) + ".",
        "headers": _headers((*fields.ALWAYS, *headers)),
        "content": {problems.MEDIA_TYPE: _content((problems.Problem,), examples)},
    }


def _headers(headers: Iterable[Header]) -> dict[str, Any]:
    """By name; those that are the same everywhere stand among the components."""
    return {
        header.name: _header(header) if header.name == "Link" else header.name for header in headers
    }


def _header(header: Header) -> dict[str, Any]:
    return {
        "description": header.description,
        "schema": {"type": "string"},
        "example": header.example,
    }


def _content(types: tuple[Any, ...], examples: Examples) -> dict[str, Any]:
    return {
        "schema": _schema(types),
        "examples": {
            name: {"value": msgspec.to_builtins(value)} for name, value in examples.items()
        },
    }


def _title(status: int) -> str:
    """The title of a status, as the name of a component."""
    return "".join(word.capitalize() for word in problems.plain(status).title.split())


_TEMPLATE = "#/components/schemas/{name}"


def _schema(types: tuple[Any, ...]) -> dict[str, Any]:
    schemas, _ = msgspec.json.schema_components(types, ref_template=_TEMPLATE)
    return schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}


def _schemas() -> dict[str, dict[str, Any]]:
    """The schemas of all structs, by their names."""
    types = [problems.Problem]
    for operation in OPERATIONS:
        types += operation.body.types if operation.body else ()
        types += (type_ for answer in operation.answers for type_ in answer.types)
        types += (parameter.type for parameter in operation.parameters)
    _, components = msgspec.json.schema_components(types, ref_template=_TEMPLATE)
    for schema in components.values():
        schema["description"] = inspect.cleandoc(schema["description"])
        if "enum" in schema:
            schema["type"] = "string"
    return components
