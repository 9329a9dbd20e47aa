"""Logging: one line an event, for people at a terminal and JSON otherwise, on stderr.

Logging never raises, at any level, on any thread: a line that cannot be made or written is counted.
"""

import logging
from typing import Any

import msgspec
import structlog
from structlog.types import EventDict, FilteringBoundLogger, Processor

from jobengine.standard_error import STANDARD_ERROR


def set_up(level: str) -> None:
    """Sends everything that is logged, libraries' included, to stderr from `level` up."""
    threshold = _threshold(level)
    set_up_events(level)
    render = _for_humans() if STANDARD_ERROR.isatty() else _json_text
    handler = _Handler()
    handler.addFilter(_is_no_end)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_shared()],
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


def set_up_events(level: str) -> None:
    """Sends JobEngine's own events to stderr from `level` up."""
    # They go straight to it, without the standard library's handlers: a request line costs a
    # quarter of what it does through them.
    structlog.configure(
        processors=_of_events(),
        wrapper_class=_logger_from(_threshold(level)),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    STANDARD_ERROR.report = _report_of_lost


def lines_lost() -> int:
    """How many log lines could not be written since the start."""
    return STANDARD_ERROR.lost


class _Lines:
    """Where structlog sends a line."""

    def __init__(self, *_: Any) -> None:
        pass

    def msg(self, line: bytes) -> None:
        STANDARD_ERROR.line(line)

    debug = info = warning = error = critical = exception = msg


def _is_no_end(record: logging.LogRecord) -> bool:
    """Whether it is no signal's SystemExit, which SQLAlchemy logs on its way and raises again."""
    return not (record.exc_info and isinstance(record.exc_info[1], SystemExit))


class _Handler(logging.Handler):
    """Where the standard library sends a record."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  a library's mistake in what it logs ends none of its calls
            STANDARD_ERROR.lose()
        else:
            STANDARD_ERROR.line(_encode(None, "", line))


def _logger_from(threshold: int) -> type[FilteringBoundLogger]:
    filtering: Any = structlog.make_filtering_bound_logger(threshold)

    class Logger(filtering):  # type: ignore[misc]  # made by a function
        def _proxy_to_logger(self, *args: Any, **fields: Any) -> None:
            try:
                super()._proxy_to_logger(*args, **fields)
            except Exception:  # noqa: BLE001  counted; whoever logs goes on
                STANDARD_ERROR.lose()

    return Logger


def _report_of_lost(lines: int) -> bytes:
    line: Any = {"event": "log lines were lost", "component": "log", "lines": lines}
    for processor in _of_events():
        line = processor(None, "warning", line)
    return bytes(line)


def _threshold(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _shared() -> list[Processor]:
    human = STANDARD_ERROR.isatty()
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not human),
    ]
    return [*shared, _printable] if human else [*shared, structlog.processors.format_exc_info]


def _for_humans() -> Processor:
    # Not the renderer's own choice of traceback, which shows the values of variables.
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _of_events() -> list[Processor]:
    """What makes the bytes of a line."""
    rendered = [_for_humans(), _encode] if STANDARD_ERROR.isatty() else [_json]
    return [*_shared(), *rendered]


def _printable(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Escapes what a client could send to steer the terminal; tracebacks stay readable."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable() and key != "exception":
            event[key] = value.encode("unicode_escape").decode("ascii")
    return event


def _json(_logger: object, _method: str, event: EventDict) -> bytes:
    try:
        return msgspec.json.encode(event, enc_hook=repr) + b"\n"
    except Exception:  # noqa: BLE001  such as a path that is no UTF-8, or a value without a repr
        plain = {key: _plain(value) for key, value in event.items()}
        return msgspec.json.encode(plain) + b"\n"


def _json_text(logger: object, method: str, event: EventDict) -> str:
    return _json(logger, method, event).decode().rstrip("\n")


def _plain(value: object) -> str:
    """A value as text that can be encoded, whatever it is."""
    try:
        return str(value).encode("utf-8", "backslashreplace").decode()
    except Exception as error:  # noqa: BLE001  its own fault; the rest of the line is wanted
        return f"<{type(error).__name__}>"


def _encode(_logger: object, _method: str, line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"
