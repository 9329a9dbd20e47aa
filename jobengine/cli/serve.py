"""`jobengine serve`."""

import os
import signal
from pathlib import Path

import click
import structlog

from jobengine.cli import logs
from jobengine.cli.http_server import HttpServer
from jobengine.config.environment import read_environment
from jobengine.domain.clock import Clock
from jobengine.domain.errors import CannotOpen
from jobengine.wsgi import Service

_log = structlog.get_logger(component="service")


@click.command(
    epilog="""\b
Examples:
  SECRET=... jobengine serve
  SECRET_FILE=/run/secrets/jobengine jobengine serve --host 0.0.0.0
  SECRET=... jobengine serve --config ./config.yml --db ./jobs.queuedb --port 8080

\b
Environment:
  SECRET       the key that encrypts the database; required
  SECRET_FILE  a file that holds it, instead
  CONFIG_PATH  the config file (default /jobengine/config.yml)
  DB_PATH      the database file (default /jobengine/database.queuedb)
  GIN_MODE     release logs warnings and errors, debug everything
  LOG_LEVEL    debug, info, warning or error; wins over GIN_MODE

\b
Exit codes:
  0  stopped as asked, by SIGTERM or SIGINT
  1  SECRET is missing or wrong, or a file or the port cannot be opened
  2  a mistake in the config, the environment or the command line
"""
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="The config file; over CONFIG_PATH."
)
@click.option("--db", type=click.Path(path_type=Path), help="The database file; over DB_PATH.")
@click.option("--host", help="The address to listen on; over the config's host.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="The port to listen on, 0 for any free one; over the config's port.",
)
@click.pass_obj
def serve(
    clock: Clock | None,
    config: Path | None,
    db: Path | None,
    host: str | None,
    port: int | None,
) -> None:
    """Serve the job queues of a config over HTTP, until SIGTERM or SIGINT.

    The database is made, or brought to the newest schema, first; a config is generated
    where there is none.
    """
    launch = read_environment(os.environ, config=config, database=db, host=host, port=port)
    logs.set_up(launch.log_level)
    service = Service(launch, clock)
    try:
        server = _bind(service, launch.host, launch.port)
        service.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        _log.info("listening", urls=server.addresses(), pid=os.getpid())
        server.serve()
    finally:
        service.stop()


def _bind(service: Service, host: str | None, port: int | None) -> HttpServer:
    settings = service.settings
    host = settings.host if host is None else host
    port = settings.port if port is None else port
    try:
        return HttpServer(
            service.app,
            host=host,
            port=port,
            threads=settings.threads,
            max_body_bytes=settings.max_body_bytes,
            on_stop=service.stop_waiting,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CannotOpen(f"cannot listen on {host} port {port}: {reason}") from error
