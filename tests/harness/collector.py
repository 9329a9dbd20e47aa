"""A collector of traces: OTLP over HTTP, kept in memory."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_WAIT_SECONDS = 30


class Link(NamedTuple):
    trace_id: str
    span_id: str


class Received(NamedTuple):
    """A span as it was exported, ids in hexadecimal."""

    name: str
    kind: int
    trace_id: str
    parent_id: str
    links: list[Link]
    attributes: dict[str, Any]
    error: bool
    resource: dict[str, Any]


class Collector:
    """Takes spans from any number of servers while it is entered."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.bodies: list[bytes] = []
        self._came = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with collector._came:
                    collector.bodies.append(body)
                    collector.spans += _spans(body)
                    collector._came.notify_all()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def env(self) -> dict[str, Any]:
        """What makes a server export to it."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url}

    def named(self, name: str) -> list[Received]:
        """The spans of a name; all of them once the server has stopped."""
        return [span for span in self.spans if span.name == name]

    def wait_for(self, wanted: Callable[[Received], bool]) -> Received:
        """Waits until a span has come that is wanted."""
        with self._came:
            assert self._came.wait_for(lambda: any(map(wanted, self.spans)), _WAIT_SECONDS)
            return next(filter(wanted, self.spans))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _spans(body: bytes) -> list[Received]:
    return [
        Received(
            span.name,
            span.kind,
            span.trace_id.hex(),
            span.parent_span_id.hex(),
            [Link(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
            _values(span.attributes),
            span.status.code == span.status.STATUS_CODE_ERROR,
            _values(of_resource.resource.attributes),
        )
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in of_resource.scope_spans
        for span in scope.spans
    ]


def _values(attributes: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value")
        for each in attributes
    }
