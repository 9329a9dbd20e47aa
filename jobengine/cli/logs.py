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
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=not human),
    ]
    if human:
        render: list[Processor] = [structlog.dev.ConsoleRenderer()]
    else:
        render = [structlog.processors.format_exc_info, _one_line]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Each says at info what JobEngine says itself, and alembic in several lines.
    for name in ("alembic", "sqlalchemy", "waitress"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _one_line(_logger: object, _method: str, event: EventDict) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode("utf-8")
