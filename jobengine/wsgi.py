"""A running JobEngine, from its start to its stop, for the command and for any WSGI server.

Another WSGI server runs the application with, e.g.:

    gunicorn --threads 32 'jobengine.wsgi:create_app()'

with one process only where the database is a file, which belongs to a single process, and
started in the process that serves: without --preload.
"""

import atexit
import os
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import structlog
import uuid_utils
from sqlalchemy.exc import SQLAlchemyError

from jobengine import __version__, logs
from jobengine.api.problems import refusal
from jobengine.config.environment import read_environment
from jobengine.config.settings import Launch, Settings
from jobengine.domain.clock import Clock
from jobengine.domain.errors import (
    CannotOpen,
    CannotStart,
    ConfigRefused,
    NotRunning,
    StoreFailed,
    Unavailable,
)
from jobengine.engine.config_watch import ConfigWatch
from jobengine.engine.jobs import UidFactory
from jobengine.engine.keys import valid_keys
from jobengine.engine.queue_admin import Store
from jobengine.engine.startup import read_if_present, settle
from jobengine.store.failures import cause
from jobengine.store.migrate import upgrade
from jobengine.store.opening import open_database
from jobengine.store.reads import Reads
from jobengine.store.writing.writer import Writer
from jobengine.threads import ServiceThread
from jobengine.wiring import Around, UseCases

if TYPE_CHECKING:
    from jobengine.tracing import OpenTelemetry

# What is not about queues is taken over by a start alone.
_AT_START = (
    *("host", "port", "base_path", "max_body_bytes", "threads", "waiters", "request_seconds"),
)

FORKED = (
    "this process was forked after the start, and can serve nothing: "
    "run gunicorn without --preload, uWSGI with lazy-apps"
)

_log = structlog.get_logger(component="service")


def _uuid7() -> bytes:
    return uuid_utils.uuid7().bytes


class Service:
    """A running JobEngine without its HTTP server: the database, its threads, the app."""

    def __init__(
        self,
        launch: Launch,
        clock: Clock | None = None,
        new_uid: UidFactory = _uuid7,
        *,
        waiting_blocks_a_thread: bool = True,
    ) -> None:
        """Opens the database, migrates it, and reconciles it with the config.

        Nothing is written before the config has been found good and the SECRET to
        open the file. `waiting_blocks_a_thread`: the HTTP server lends a thread to each
        call that waits for a job, so half of them are kept for the others. Raises
        CannotStart.
        """
        self._waiting_blocks_a_thread = waiting_blocks_a_thread
        self._config_path = launch.config_path
        # Before the file is read: from here on no change is missed.
        self._config = ConfigWatch(launch.config_path, self.apply, self._now)
        settings = read_if_present(launch)
        with ExitStack() as undo:
            self._database = open_database(launch.database, launch.secret.value)
            undo.callback(self._database.close)
            self.clock = clock or self._database.clock()
            try:
                self.settings = settle(launch, settings, self._database)
                if settings is None:
                    # Generated.
                    self._config = ConfigWatch(launch.config_path, self.apply, self._now)
                self._tracing = _start_tracing(self.clock) if launch.traced else None
                if self._tracing is not None:
                    undo.callback(self._tracing.stop)
                upgrade(self._database)
                self._wire(new_uid, undo)
            except (SQLAlchemyError, Unavailable) as error:
                failed = cause(error.__cause__ or error)
                raise CannotOpen(f"{self._database.place} cannot be opened: {failed}") from error
            undo.pop_all()
        _log.info("database open", place=self._database.place, version=__version__)

    def _wire(self, new_uid: UidFactory, undo: ExitStack) -> None:
        self._in_force = self.settings
        self._writer = Writer(self._database, self.clock)
        self._writer.start()
        undo.callback(self._writer.stop)
        self._reads = Reads(self._database)
        seen = self._reads.newest_time()
        if seen is not None:
            self.clock.start_from(seen)
        around = Around(
            settings=lambda: self._in_force,
            config_path=self._config_path,
            config_looked=lambda: self._config.looked,
            tracing=self._tracing,
        )
        store = Store(self._writer, self._reads, self._database, self.clock)
        cases = UseCases(store, around, new_uid, self._bound_of_waiters())
        self.queues, self.keys, self.access = cases.queues, cases.keys, cases.access
        self.jobs, self.metrics, self.hosts = cases.jobs, cases.metrics, cases.hosts
        self.queues.reconcile(self._writer, self.settings, self.clock, self._database)
        self._duties = cases.duties(self)
        self.app, self.site = cases.applications(self)
        self._control = cases.control()

    def _bound_of_waiters(self) -> int:
        most = self.settings.waiters
        return min(most, self.settings.threads // 2) if self._waiting_blocks_a_thread else most

    def _now(self) -> int:
        return self.clock.now()

    def start(self) -> None:
        """Starts the duties, and watches the config and other servers.

        Calls are served without, too.
        """
        self._database.watch(self)
        self._duties.start()
        self._config.start()
        if self._control is not None:
            self._control.start()
        if self.access.wants_keys and not valid_keys(self.keys.all(), self.clock.now()):
            _log.warning("no call can be made without a key: jobengine keys create SERVICE")

    def check(self) -> None:
        """Raises Unavailable where jobs cannot be served, or a thread does not do its work."""
        self._database.check()
        self._database.damage.check()
        self._writer.check()
        self._reads.ceiling()
        for thread in self._threads():
            if not thread.works:
                raise NotRunning(f"the thread {thread.name!r} died; it is started again")

    def _threads(self) -> list[ServiceThread]:
        control = [] if self._control is None else [self._control.thread]
        own = [self._duties.thread, self._config.thread]
        return [*own, *control, *self._database.threads()]

    def reload(self) -> None:
        """Has the config file read again and applied, soon; for a signal handler."""
        self._config.ask()

    def apply(self, settings: Settings) -> None:
        """Takes over the queues of a changed config, as at a start.

        Raises ConfigRefused, and then nothing is changed.
        """
        if settings.queues is None and any(queue.from_config for queue in self.queues.all()):
            mistake = "queues: missing, which would delete every queue: write `queues: {}` for that"
            raise ConfigRefused("the config", [mistake])
        self.queues.reconcile(self._writer, settings, self.clock, self._database)
        self._in_force = settings
        later = [
            name for name in _AT_START if getattr(settings, name) != getattr(self.settings, name)
        ]
        if later:
            _log.warning("these settings take effect at the next start", settings=later)

    @property
    def stale(self) -> bool:
        """Whether the queues or the keys in force may not be those of the database."""
        return self.queues.stale or self.keys.stale

    def jobs_came(self, queue_ids: Collection[int] | None) -> None:
        """See Peers."""
        self._writer.wake(queue_ids)

    def shared_changed(self) -> None:
        """See Peers."""
        try:
            self.queues.reload(self._reads)
            self.keys.reload()
        except StoreFailed as error:
            _log.info("the queues and keys could not be read again", reason=str(error))

    def stop_waiting(self) -> None:
        """Answers the calls that wait for a job, and lets no other wait."""
        self._writer.stop_waiting()

    def stop(self) -> None:
        """Finishes what was begun, empties the log into the file, and lets go of it."""
        self._config.stop()
        if self._control is not None:
            self._control.stop()
        self._duties.stop()
        self._writer.stop()
        self._database.close()
        _log.info("database closed")
        if self._tracing is not None:
            self._tracing.stop()


def create_app() -> "OneProcess":
    """The application, started, with everything from the environment, for any WSGI server."""
    launch = read_environment(os.environ)
    if not structlog.is_configured():  # by the program that this is a part of
        logs.set_up_events(launch.log_level)
    service = Service(launch)
    service.start()
    return OneProcess(service)


class OneProcess:
    """The application, in the process that started it.

    A process that is forked off has none of its threads, so that no write would ever be done, and
    must not touch its connections to the database: there each call is refused.
    """

    def __init__(self, service: Service) -> None:
        """Stops the service when the process ends."""
        self._service = service
        self._process = os.getpid()
        self._logged = False
        atexit.register(self._stop)

    def __call__(self, env: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Calls the application."""
        if os.getpid() == self._process:
            return self._service.site(env, start_response)
        if not self._logged:
            _log.error(FORKED)
            self._logged = True
        return refusal(NotRunning(FORKED), start_response)

    def _stop(self) -> None:
        if os.getpid() == self._process:
            self._service.stop()


def _start_tracing(clock: Clock) -> "OpenTelemetry | None":
    """Raises ConfigRefused where OpenTelemetry cannot work with its variables."""
    try:
        from jobengine.tracing import OpenTelemetry

        return OpenTelemetry(clock.elapsed)
    except ModuleNotFoundError as error:
        _log.warning(
            "nothing is traced: pip install 'jobengine[opentelemetry]'", missing=error.name
        )
        return None
    except CannotStart:
        raise
    except Exception as error:
        names = ", ".join(sorted(name for name in os.environ if name.startswith("OTEL_")))
        reason = str(error) or type(error).__name__
        raise ConfigRefused(
            "the environment", [f"OpenTelemetry: {reason} (its variables that are set: {names})"]
        ) from error
