"""A running JobEngine, from its start to its stop, for the command and for any WSGI server.

Another WSGI server runs the application with, e.g.:

    gunicorn --threads 32 'jobengine.wsgi:create_app()'

with one process only where the database is a file, which belongs to a single process.
"""

import atexit
import os
from collections.abc import Collection
from contextlib import ExitStack
from typing import TYPE_CHECKING

import structlog
import uuid_utils
from sqlalchemy.exc import SQLAlchemyError

from jobengine import __version__
from jobengine.config.environment import read_environment
from jobengine.config.settings import Launch, Settings
from jobengine.domain.clock import Clock
from jobengine.domain.errors import CannotOpen, ConfigRefused, StoreFailed, Unavailable
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
from jobengine.web.app import Site
from jobengine.wiring import Around, UseCases

if TYPE_CHECKING:
    from jobengine.tracing import OpenTelemetry

# What is not about queues is taken over by a start alone.
_AT_START = ("host", "port", "max_body_bytes", "threads", "waiters", "request_seconds")

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
                upgrade(self._database)
                self._tracing = _start_tracing(self.clock) if launch.traced else None
                if self._tracing is not None:
                    undo.callback(self._tracing.stop)
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
        around = Around(
            settings=lambda: self._in_force,
            config_path=self._config_path,
            config_looked=lambda: self._config.looked,
            tracing=self._tracing,
        )
        store = Store(self._writer, self._reads, self._database, self.clock)
        cases = UseCases(store, around, new_uid, self._bound_of_waiters())
        self.queues, self.keys, self.access = cases.queues, cases.keys, cases.access
        self.jobs, self.metrics = cases.jobs, cases.metrics
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
        """Raises Unavailable where jobs cannot be served."""
        self._database.check()
        self._database.damage.check()
        self._writer.check()
        self._reads.ceiling()

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


def create_app() -> Site:
    """The application, started, with everything from the environment, for any WSGI server."""
    service = Service(read_environment(os.environ))
    service.start()
    atexit.register(service.stop)
    return service.site


def _start_tracing(clock: Clock) -> "OpenTelemetry | None":
    try:
        from jobengine.tracing import OpenTelemetry
    except ModuleNotFoundError as error:
        _log.warning(
            "nothing is traced: pip install 'jobengine[opentelemetry]'", missing=error.name
        )
        return None
    return OpenTelemetry(clock.elapsed)
