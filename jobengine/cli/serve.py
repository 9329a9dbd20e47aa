"""`jobengine serve`."""

import os
import signal
from pathlib import Path

import click
import structlog

from jobengine import logs
from jobengine.cli.granian_server import GranianServer
from jobengine.cli.hardening import take_environment
from jobengine.cli.http_server import HttpServer, OnSignal, SettingsOfServer
from jobengine.cli.interrupts import INTERRUPTS
from jobengine.config.environment import read_environment
from jobengine.config.settings import Launch
from jobengine.domain.clock import Clock
from jobengine.domain.errors import CannotOpen, reason
from jobengine.engine.hosts import is_loopback
from jobengine.wsgi import Service

_log = structlog.get_logger(component="service")


@click.command(
    epilog="""\b
Examples:
  SECRET=... jobengine serve
  SECRET_FILE=/run/secrets/jobengine jobengine serve --host 0.0.0.0
  SECRET=... jobengine serve --config ./config.yml --db ./jobs.queuedb --port 8080
  SECRET=... jobengine serve --server granian
  SECRET=... DATABASE_URL=postgresql+psycopg://user:password@host/jobs jobengine serve

\b
Environment:
  SECRET       the key that encrypts the database; required
  SECRET_FILE  a file that holds it, instead
  CONFIG_PATH  the config file (default /jobengine/config.yml)
  DB_PATH      the database file (default /jobengine/database.queuedb)
  DATABASE_URL the PostgreSQL database, instead of a file
  GIN_MODE     release logs warnings and errors, debug everything
  LOG_LEVEL    debug, info, warning or error; wins over GIN_MODE
  OTEL_EXPORTER_OTLP_ENDPOINT
               where traces go; needs the extra: pip install 'jobengine[opentelemetry]'

\b
Exit codes:
  0  stopped as asked, by SIGTERM or SIGINT
  1  SECRET is missing or wrong, or a file, the database or the port cannot be opened
  2  a mistake in the config, the environment or the command line
"""
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="The config file; over CONFIG_PATH."
)
@click.option("--db", type=click.Path(path_type=Path), help="The database file; over DB_PATH.")
@click.option(
    "--database-url",
    help="The PostgreSQL database; over DATABASE_URL, which keeps a password out of `ps`.",
)
@click.option("--host", help="The address to listen on; over the config's host.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="The port to listen on, 0 for any free one; over the config's port.",
)
@click.option(
    "--server",
    type=click.Choice(["waitress", "granian"]),
    default="waitress",
    show_default=True,
    help="The HTTP server; granian is an extra: pip install 'jobengine[granian]'.",
)
@click.pass_obj
def serve(
    clock: Clock | None,
    config: Path | None,
    db: Path | None,
    database_url: str | None,
    host: str | None,
    port: int | None,
    server: str,
) -> None:
    """Serve the job queues of a config over HTTP, until SIGTERM or SIGINT.

    The database is made, or brought to the newest schema, first; a config is generated
    where there is none. A changed config is applied within seconds, or at SIGHUP.
    """
    launch = read_environment(
        take_environment(), config=config, database=db, url=database_url, host=host, port=port
    )
    logs.set_up(launch.log_level)
    service = Service(launch, clock, waiting_blocks_a_thread=False)  # both servers use fibers
    service.hosts.listens_on(_host(service, launch))
    try:
        http = _bind(server, service, launch)
        service.start()
        if not service.access.wants_keys and not is_loopback(_host(service, launch)):
            _log.warning(
                "whoever reaches this address may call as any service: `authentication: keys` "
                "in the config asks for keys"
            )
        http.serve(lambda: _serving(http, service))
    finally:
        service.stop()


def _serving(http: HttpServer | GranianServer, service: Service) -> None:
    _log.info("listening", urls=http.addresses(), pid=os.getpid())
    if INTERRUPTS.reload:
        service.reload()
    if INTERRUPTS.stop:  # and Python dropped what was raised then
        os.kill(os.getpid(), signal.SIGTERM)


def _host(service: Service, launch: Launch) -> str:
    return service.settings.host if launch.host is None else launch.host


def _bind(server: str, service: Service, launch: Launch) -> HttpServer | GranianServer:
    settings = service.settings
    wanted = SettingsOfServer(
        host=_host(service, launch),
        port=settings.port if launch.port is None else launch.port,
        threads=settings.threads,
        max_body_bytes=settings.max_body_bytes,
        request_seconds=settings.request_seconds,
    )
    signals = OnSignal(stop=service.stop_waiting, reload=service.reload)
    serving = GranianServer if server == "granian" else HttpServer
    try:
        return serving(service.site, wanted, signals)
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        where = f"{wanted.host} port {wanted.port}"
        raise CannotOpen(f"cannot listen on {where}: {why}") from error
