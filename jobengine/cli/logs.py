"""Logging: one line an event, for people at a terminal and JSON otherwise, on stderr."""

import logging
import sys

import msgspec
import structlog
from structlog.types import EventDict, Processor


def set_up(level: str) -> None:
    """Sends everything that is logged, libraries' included, to stderr from `level` up."""
    human = sys.stderr.isatty()
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not human),
        structlog.processors.format_exc_info if not human else _as_it_is,
    ]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    if human:
        # Not the renderer's own choice of traceback, which shows the values of variables.
        plain = structlog.dev.plain_traceback
        render: Processor = structlog.dev.ConsoleRenderer(exception_formatter=plain)
        shared.append(_printable)
    # Our own events go straight to the stream, without the standard library's handlers:
    # a request line costs a quarter of what it does through them.
    structlog.configure(
        processors=[*shared, render if human else _json],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr)
        if human
        else structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    _set_up_libraries(threshold, shared, render if human else _json_text)


def _set_up_libraries(threshold: int, shared: list[Processor], render: Processor) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    # Each says at info what JobEngine says itself, and alembic in several lines.
    for name in ("alembic", "sqlalchemy", "waitress"):
        logging.getLogger(name).setLevel(max(logging.WARNING, threshold))
    # It warns of each request that waits for a thread, which under load is most of them.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


def _printable(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Escapes what a client could send to steer the terminal; tracebacks stay readable."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable() and key != "exception":
            event[key] = value.encode("unicode_escape").decode("ascii")
    return event


def _as_it_is(_logger: object, _method: str, event: EventDict) -> EventDict:
    return event


def _json(_logger: object, _method: str, event: EventDict) -> bytes:
    return msgspec.json.encode(event, enc_hook=repr)


def _json_text(logger: object, method: str, event: EventDict) -> str:
    return _json(logger, method, event).decode("utf-8")
