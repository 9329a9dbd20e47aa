"""Wires the use cases to each other, and the API and the pages to the use cases."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jobengine import logs
from jobengine.api.access_log import AccessLog
from jobengine.api.app import App
from jobengine.api.app import Services as Calls
from jobengine.api.app import create_app as create_api
from jobengine.api.health import Readiness
from jobengine.api.misdirected import CheckHost
from jobengine.api.timing import Timing
from jobengine.config.settings import Settings
from jobengine.engine.access import Access, Granted
from jobengine.engine.administration import Administration, Offices
from jobengine.engine.audit import Audit
from jobengine.engine.browsing import Browsing
from jobengine.engine.config_watch import Looked
from jobengine.engine.control import Control
from jobengine.engine.desk import Desk
from jobengine.engine.duties.duty import Duty
from jobengine.engine.duties.end_sessions import EndSessions
from jobengine.engine.duties.expire import Expire
from jobengine.engine.duties.fail import Fail
from jobengine.engine.duties.note_uses import NoteUses
from jobengine.engine.duties.prune import Prune
from jobengine.engine.duties.purge import Purge
from jobengine.engine.duties.refresh import Refresh, Shared
from jobengine.engine.duties.runner import DutyRunner
from jobengine.engine.duties.thin import Thin
from jobengine.engine.duties.watch_place import WatchPlace
from jobengine.engine.hosts import Hosts
from jobengine.engine.jobs import Jobs, UidFactory
from jobengine.engine.keys import Keys
from jobengine.engine.metrics import Metrics
from jobengine.engine.permits import Permits
from jobengine.engine.queue_admin import QueueAdmin, Rights, Store
from jobengine.engine.queues import Queues
from jobengine.engine.rates import Rates
from jobengine.engine.sign_in import SignIn
from jobengine.engine.system import Parts, System
from jobengine.engine.users import Users
from jobengine.web.app import Services as Pages
from jobengine.web.app import Site
from jobengine.web.app import create_app as create_pages

if TYPE_CHECKING:
    from jobengine.tracing import OpenTelemetry

# The share of the threads that lists may hold: a client that reads slowly holds one.
_LIST_SHARE = 4


class Around(NamedTuple):
    """What the use cases need to know of the process that they are in."""

    # Those in force, which a changed config file changes.
    settings: Callable[[], Settings]
    config_path: Path
    # What came of the last look at that file.
    config_looked: Callable[[], Looked | None]
    tracing: "OpenTelemetry | None"


class UseCases:
    """All that can be asked of one store, by services and by people, and by time."""

    def __init__(self, store: Store, around: Around, new_uid: UidFactory, waiters: int) -> None:
        """`waiters` is how many calls may wait for a job at once."""
        self._store, self._around = store, around
        writer, reads, database, clock = store
        lists = max(1, around.settings().threads // _LIST_SHARE)
        self.queues = Queues()
        self.keys = Keys(writer, reads, clock, database)
        self.access = Access(self.keys, around.settings)
        permits = Permits(self.access, self.queues)
        self.jobs = Jobs(*(writer, reads, permits, clock, new_uid, lists), waiters, around.tracing)
        self.hosts = Hosts(around.settings)
        self.metrics = Metrics(reads, writer, self.queues, clock)
        self._users = Users(writer, reads, clock, database)
        self._audit = Audit(reads)

    def duties(self, shared: Shared) -> DutyRunner:
        """What is done in the background; `shared` is read again where that has failed."""
        writer, reads, database, clock = self._store
        # Fail comes before Prune, which only looks at what has finished.
        led: list[Duty] = [
            Expire(writer, self.queues, clock),
            Fail(writer, reads, self.queues, clock),
            Prune(writer, self.queues, clock),
            Purge(writer, reads),
            EndSessions(writer, reads, clock),
            Thin(writer, clock),
        ]
        own: list[Duty] = [WatchPlace(database), NoteUses(self.keys), Refresh(shared)]
        return DutyRunner(led, clock, database.leads, own)

    def applications(self, readiness: Readiness) -> tuple[App, Site]:
        """The API alone, and the API and the pages as one."""
        timing, settings = Timing(), self._around.settings()
        most = settings.max_body_bytes
        tracing = self._around.tracing
        before: list[Any] = [AccessLog(), timing, CheckHost(self.hosts)]
        if tracing is not None:
            before.insert(0, tracing.middleware)
        api = create_api(self._calls(), readiness, most, timing, before)
        return api, Site(api, create_pages(self._pages(), before, most), settings.base_path)

    def control(self) -> Control | None:
        """Takes commands from processes that cannot open the database beside this one."""
        place = self._store.database.control
        if place is None:
            return None
        return Control(*place, Administration(Offices(self.keys, self._users)).handle)

    def _calls(self) -> Calls:
        return Calls(
            self.jobs,
            self.access,
            Rates(self._around.settings, self._knows, self._store.clock.elapsed),
            self._audit,
            self._queue_admin(self.access),
            self.metrics,
            logs.lines_lost,
        )

    def _knows(self, service: str) -> bool:
        """Whether the name is one that clients cannot invent, or that has any right."""
        access = self.access
        known = access.wants_keys or access.may_read_metrics(service)
        return known or self.queues.know(service)

    def _pages(self) -> Pages:
        """What the pages call; the roles of their visitors are looked at there."""
        writer, reads, database, clock = self._store
        browsing = Browsing(reads, self.queues, clock)
        return Pages(
            browsing,
            Desk(writer, browsing, self.queues, database, clock),
            self._queue_admin(Granted()),
            self.metrics,
            self._system(),
            self._audit,
            clock,
            self._users,
            SignIn(writer, reads, clock, database),
        )

    def _queue_admin(self, rights: Rights) -> QueueAdmin:
        around = self._around
        return QueueAdmin(self._store, self.queues, rights, around.settings, around.config_path)

    def _system(self) -> System:
        writer, _, database, clock = self._store
        return System(
            Parts(database, clock, self.keys, lambda: writer.waiting),
            self._around.settings,
            str(self._around.config_path),
            self._around.config_looked,
        )
