"""The composition root: wires the layers together, for the command and for any WSGI server.

Another WSGI server runs the application with, e.g.:

    gunicorn --threads 32 'jobengine.wsgi:create_app()'

with one process only where the database is a file, which belongs to a single process.
"""

import atexit
import os
from collections.abc import Collection
from contextlib import ExitStack

import structlog
import uuid_utils
from sqlalchemy.exc import SQLAlchemyError

from jobengine import __version__
from jobengine.api.app import App, Services
from jobengine.api.app import create_app as create_api
from jobengine.config.document import read_settings
from jobengine.config.environment import read_environment
from jobengine.config.settings import Launch, Settings
from jobengine.config.template import write_default
from jobengine.domain.clock import Clock
from jobengine.domain.errors import CannotOpen, ConfigRefused, StoreFailed, Unavailable
from jobengine.engine.access import Access
from jobengine.engine.administration import Administration
from jobengine.engine.audit import Audit
from jobengine.engine.config_watch import ConfigWatch
from jobengine.engine.control import Control
from jobengine.engine.duties.duty import Duty
from jobengine.engine.duties.expire import Expire
from jobengine.engine.duties.fail import Fail
from jobengine.engine.duties.note_uses import NoteUses
from jobengine.engine.duties.prune import Prune
from jobengine.engine.duties.purge import Purge
from jobengine.engine.duties.refresh import Refresh
from jobengine.engine.duties.runner import DutyRunner
from jobengine.engine.jobs import Jobs, UidFactory
from jobengine.engine.keys import Keys, valid_keys
from jobengine.engine.queue_admin import QueueAdmin, Store
from jobengine.engine.queues import Queues
from jobengine.engine.rates import Rates
from jobengine.store.database import Database, open_database
from jobengine.store.migrate import upgrade
from jobengine.store.queues import count_queues
from jobengine.store.reads import Reads
from jobengine.store.writer import Writer

# What is not about queues is taken over by a start alone.
_AT_START = ("host", "port", "max_body_bytes", "threads", "waiters", "request_seconds")
# The share of the threads that lists may hold: a client that reads slowly holds one.
_LIST_SHARE = 4

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
        self._control: Control | None = None
        self._config_path = launch.config_path
        # Before the file is read: from here on no change is missed.
        self._config = ConfigWatch(launch.config_path, self.apply)
        settings = _read_if_present(launch)
        with ExitStack() as undo:
            self._database = open_database(launch.database, launch.secret.value)
            undo.callback(self._database.close)
            self.clock = clock or self._database.clock()
            try:
                self.settings = _settle(launch, settings, self._database)
                if settings is None:
                    self._config = ConfigWatch(launch.config_path, self.apply)  # generated
                upgrade(self._database)
                self._wire(new_uid, undo)
            except (SQLAlchemyError, Unavailable) as error:
                reason = error.__cause__ or error
                raise CannotOpen(f"{self._database.place} cannot be opened: {reason}") from error
            undo.pop_all()
        _log.info("database open", place=self._database.place, version=__version__)

    def _wire(self, new_uid: UidFactory, undo: ExitStack) -> None:
        clock, database = self.clock, self._database
        self._in_force = self.settings
        self._writer = Writer(database, clock)
        self._writer.start()
        undo.callback(self._writer.stop)
        self._reads = Reads(database)
        self.keys = Keys(self._writer, self._reads, clock, database)
        self.access = Access(self.keys, lambda: self._in_force)
        self.queues = Queues()
        self.queues.reconcile(self._writer, self.settings, clock, database)
        # Fail comes before Prune, which only looks at what has finished.
        duties: list[Duty] = [
            Expire(self._writer, self.queues, clock),
            Fail(self._writer, self._reads, self.queues, clock),
            Prune(self._writer, self.queues, clock),
            Purge(self._writer, self._reads),
        ]
        own: list[Duty] = [NoteUses(self.keys), Refresh(self)]
        self._duties = DutyRunner(duties, clock, database.leads, own)
        lists = max(1, self.settings.threads // _LIST_SHARE)
        self.jobs = Jobs(
            self._writer, self._reads, self.queues, clock, new_uid, lists, self._bound_of_waiters()
        )
        self.queue_admin = QueueAdmin(
            Store(self._writer, self._reads, database, clock),
            self.queues,
            self.access,
            lambda: self._in_force,
            self._config_path,
        )
        rates = Rates(lambda: self._in_force)
        services = Services(self.jobs, self.access, rates, Audit(self._reads), self.queue_admin)
        self.app: App = create_api(services, self, self.settings.max_body_bytes)
        if database.control is not None:
            handle = Administration(self.keys).handle
            self._control = Control(*database.control, handle)

    def _bound_of_waiters(self) -> int:
        most = self.settings.waiters
        return min(most, self.settings.threads // 2) if self._waiting_blocks_a_thread else most

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


def create_app() -> App:
    """The application, started, with everything from the environment, for any WSGI server."""
    service = Service(read_environment(os.environ))
    service.start()
    atexit.register(service.stop)
    return service.app


def _read_if_present(launch: Launch) -> Settings | None:
    try:
        return read_settings(launch.config_path)
    except FileNotFoundError:
        return None


def _settle(launch: Launch, settings: Settings | None, database: Database) -> Settings:
    """The settings to serve with: those of the config, or of one generated here.

    Refuses a missing config, or one without queues, beside a database with some: a
    mistyped CONFIG_PATH must not erase everything, nor let everybody in.
    """
    if (settings is None or settings.queues is None) and not database.is_new:
        queues = _count_queues(database, of_config=settings is not None)
        if queues:
            what = "is missing" if settings is None else "has no `queues`"
            mistake = (
                f"it {what}, but {database.place} holds {queues} queue(s), which would be "
                "deleted with their jobs, or open to anybody: check CONFIG_PATH, or write "
                "`queues: {}`"
            )
            raise ConfigRefused(f"the config {launch.config_path}", [mistake])
    return settings or _generate(launch)


def _count_queues(database: Database, *, of_config: bool) -> int:
    with database.readers.connect() as connection:
        return count_queues(connection, of_config=of_config)


def _generate(launch: Launch) -> Settings:
    try:
        write_default(launch.config_path)
    except OSError as error:
        raise CannotOpen(
            f"there is no config at {launch.config_path}, and none can be written: {error.strerror}"
        ) from error
    _log.warning("config generated, without queues: add yours to it", path=str(launch.config_path))
    return read_settings(launch.config_path)
