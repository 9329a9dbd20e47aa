"""Tracing with OpenTelemetry: the one module that knows it, imported where tracing is on.

The spans are those of its instrumentation of Falcon; here they get what the call did, and
lose what could be secret. They are exported by a thread of the SDK, off the calls.
"""

import logging
import os
import re
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from itertools import islice
from typing import Any, NoReturn
from wsgiref.util import setup_testing_defaults

import falcon
import structlog
from falcon import HTTP_METHODS, Request, Response
from opentelemetry import propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.falcon import FalconInstrumentor
from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from jobengine import __version__
from jobengine.domain.errors import ConfigRefused
from jobengine.engine.tracing import Operation

# Links of a span, which is also the SDK's own limit.
LINKS_MAX = 128
# How long a stop waits for the last spans to be taken.
_FLUSH_SECONDS = 3.0
# How often it is said that spans cannot be exported.
_SAY_SECONDS = 60.0
# W3C Trace Context, section 3.2.2: version 00; an id of zeros is none.
_TRACEPARENT = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# Where the instrumentation keeps the span of a request.
_SPAN_KEY = "opentelemetry-falcon.span_key"
# By the semantic conventions for messaging; a broker that settles is told so by its client.
_TYPES = {
    Operation.CREATE: "send",
    Operation.CLAIM: "receive",
    Operation.UPDATE: "settle",
    Operation.DELETE: "settle",
}
# What the instrumentation reads: the stable names; no attribute of a request, one of which is
# its body; and no header that has a key or a session in it, should headers be captured.
_SETTINGS = {
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
    "OTEL_PYTHON_FALCON_TRACED_REQUEST_ATTRS": "",
}
_SANITIZED = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS"
_HIDDEN_HEADERS = "authorization,cookie,set-cookie"
# Regular expressions separated by commas, most of which are compiled at each call.
_CAPTURE = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_"
_PATTERNS = (
    "OTEL_PYTHON_EXCLUDED_URLS",
    "OTEL_PYTHON_FALCON_EXCLUDED_URLS",
    f"{_CAPTURE}REQUEST",
    f"{_CAPTURE}RESPONSE",
    _SANITIZED,
)
# What the trial call says to be: part of a trace that is recorded, by most samplers.
_TRIAL = {"HTTP_TRACEPARENT": f"00-{'1' * 32}-{'1' * 16}-01", "HTTP_X_TRIAL": "1"}

_log = structlog.get_logger(component="tracing")
_creator: ContextVar[str | None] = ContextVar("creator", default=None)


class OpenTelemetry:
    """Traces calls (engine.tracing.Tracing), and exports the spans until it is stopped.

    Falcon applications that are made after it are traced, if `Spans` is the first of their
    middleware.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        """Takes all else from the standard variables. `elapsed` is as a Clock's.

        Raises ConfigRefused, and whatever OpenTelemetry raises for variables that it cannot use.
        """
        _check_patterns()
        os.environ.update(_SETTINGS)
        sanitized = os.environ.get(_SANITIZED)
        os.environ[_SANITIZED] = ",".join(filter(None, (sanitized, _HIDDEN_HEADERS)))
        sdk = logging.getLogger("opentelemetry")
        sdk.propagate = False
        heard = _Heard(elapsed)
        sdk.handlers[:] = [heard]
        ours = Resource({SERVICE_NAME: "jobengine", SERVICE_VERSION: __version__})
        resource = Resource.create(ours.merge(OTELResourceDetector().detect()).attributes)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporting = BatchSpanProcessor(OTLPSpanExporter())
        # The global one: the instrumentation gives what it is passed to the first of two apps.
        trace.set_tracer_provider(self._provider)
        if not propagate.get_global_textmap().fields:
            # OTEL_PROPAGATORS=none, which leaves the instrumentation without a context: every
            # call would fail. Nothing here reads baggage.
            propagate.set_global_textmap(W3CBaggagePropagator())
        FalconInstrumentor().instrument()
        self.middleware = Spans()
        self._try_a_call()
        self._provider.add_span_processor(exporting)
        heard.started = True

    def _try_a_call(self) -> None:
        """Raises what a call would raise by the variables; its span is not exported."""
        app = falcon.App(middleware=[self.middleware])
        app.add_error_handler(Exception, _raise)
        env: dict[str, Any] = dict(_TRIAL)
        setup_testing_defaults(env)
        app(env, lambda *_: lambda _: None)

    def stop(self) -> None:
        """Exports the last spans, for as long as a stop may take."""
        FalconInstrumentor().uninstrument()
        # Its own wait for an export under way has no bound below half a minute.
        flush = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        flush.start()
        flush.join(_FLUSH_SECONDS)
        if flush.is_alive():
            _log.warning("stopped without exporting the last spans")

    def creator(self) -> str | None:
        """See Tracing."""
        return _creator.get() if trace.get_current_span().get_span_context().is_valid else None

    def note(
        self, operation: Operation, queue: str, uids: Sequence[str], creators: Sequence[str] = ()
    ) -> None:
        """See Tracing."""
        span = trace.get_current_span()
        if not span.is_recording():
            return
        span.set_attributes(
            {
                "messaging.system": "jobengine",
                "messaging.destination.name": queue,
                "messaging.operation.name": operation.value,
                "messaging.operation.type": _TYPES[operation],
            }
        )
        if len(uids) == 1:
            span.set_attribute("messaging.message.id", uids[0])
        elif uids:
            span.set_attribute("messaging.batch.message_count", len(uids))
        for creator in islice(creators, LINKS_MAX):
            span.add_link(_context(creator))


class Spans:
    """Falcon middleware: what a request's span says of HTTP.

    The instrumentation's own middleware, which comes before it, takes an error that is handled
    for a 500, and a request that is refused before it is routed for a 404.
    """

    def process_request(self, req: Request, _resp: Response) -> None:
        """Notes who creates, and hides the query: a page searches contents by it."""
        sent = req.env.get("HTTP_TRACEPARENT", "")
        _creator.set(sent if _TRACEPARENT.fullmatch(sent) else None)
        if req.query_string:
            trace.get_current_span().set_attribute("url.query", "REDACTED")

    def process_response(
        self, req: Request, resp: Response, _resource: object, _succeeded: bool
    ) -> None:
        """Notes the route and the status."""
        span = req.env.pop(_SPAN_KEY, None)
        if span is None or not span.is_recording():
            return
        span.set_attribute("http.response.status_code", resp.status_code)
        # What a client makes up is in no name: there would be no end of them.
        method = req.method if req.method in HTTP_METHODS else "HTTP"
        span.update_name(f"{method} {req.uri_template}" if req.uri_template else method)
        if req.uri_template:
            span.set_attribute("http.route", req.uri_template)
        if resp.status_code >= 500:
            span.set_status(Status(StatusCode.ERROR))


class _Heard(logging.Handler):
    """Logs what the SDK says of its variables at the start, then once a minute of its exports."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        super().__init__(logging.WARNING)
        self._elapsed = elapsed
        self._next = elapsed()
        self.started = False

    def emit(self, record: logging.LogRecord) -> None:
        """Logs it, unless it is of an export and one was logged a moment ago."""
        if not self.started:
            _log.warning("OpenTelemetry goes on in another way", reason=record.getMessage())
            return
        now = self._elapsed()
        if now >= self._next:
            self._next = now + _SAY_SECONDS
            _log.warning("spans cannot be exported", reason=record.getMessage())


def _check_patterns() -> None:
    """Raises ConfigRefused with each variable that has no regular expression in it."""
    mistakes = []
    for name in _PATTERNS:
        try:
            re.compile("|".join(part.strip() for part in os.environ.get(name, "").split(",")))
        except re.error as error:
            mistakes.append(f"{name}: expected regular expressions separated by commas: {error}")
    if mistakes:
        raise ConfigRefused("the environment", mistakes)


def _raise(_req: object, _resp: object, error: Exception, _params: object) -> NoReturn:
    if isinstance(error, falcon.HTTPNotFound):
        raise falcon.HTTPStatus(404)
    raise error


def _context(traceparent: str) -> SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))
