"""What the servers on one PostgreSQL hear of each other, on a connection of its own."""

import re
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

import psycopg
import structlog

from jobengine.domain.clock import SteeredSource
from jobengine.store.database import Peers
from jobengine.store.postgresql.scope import PUBLIC, Scope
from jobengine.threads import ServiceThread

# A payload must be shorter than 8,000 bytes; one for so many queues says "any".
_QUEUES_MAX = 300
_JOBS, _SHARED, _ANY = "jobs", "shared", "*"
_PAYLOAD = re.compile(
    rf"(?P<token>\S+) (?P<kind>{_JOBS}|{_SHARED}) (?P<what>{re.escape(_ANY)}|[0-9]+(,[0-9]+)*)"
)
# How often to stand for leader, to look after all, and to connect again.
_PERIOD_SECONDS = 1.0
# How often to measure the database's clock; two quartz clocks part by some 1 ms in 10 s.
_CLOCK_SECONDS = 10.0

_log = structlog.get_logger(component="link")


def jobs_payload(token: str, queue_ids: Collection[int]) -> str:
    """What is notified when jobs came to queues; the token names the server."""
    many = len(queue_ids) > _QUEUES_MAX
    return f"{token} {_JOBS} {_ANY if many else ','.join(map(str, queue_ids))}"


def shared_payload(token: str) -> str:
    """What is notified when the queues or the keys changed."""
    return f"{token} {_SHARED} {_ANY}"


def measure(connection: "psycopg.Connection[Any]", source: SteeredSource) -> None:
    """Steers the source by the database's clock."""
    sent = source.elapsed()
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    received = source.elapsed()
    assert row is not None  # noqa: S101  such a SELECT gives one row
    source.steer(row[0], at=(sent + received) / 2)


class _Refused(Exception):
    """The database is not to be served now."""


class Link:
    """A thread that listens, stands for leader, and measures the database's clock.

    While the connection is down it leads nothing, and has everything looked at once a
    second, since nothing can be heard.
    """

    def __init__(
        self,
        connect: "Callable[[], psycopg.Connection[Any]]",
        source: SteeredSource,
        peers: Peers,
        token: str,
        scope: Scope = PUBLIC,
    ) -> None:
        self._connect = connect
        self._scope = scope
        self._source = source
        self._peers = peers
        self._token = token
        self._stopping = threading.Event()
        self.thread = ServiceThread("link", self._run)
        self.leads = False

    def start(self) -> None:
        """Begins to listen."""
        self.thread.start()

    def stop(self) -> None:
        """Ends, and lets another server lead."""
        self._stopping.set()
        self.thread.stop()

    def _run(self) -> None:
        down = False
        while not self._stopping.is_set():
            try:
                if down:
                    self._look_at_everything()
                with self._connect() as connection:
                    self._share(connection)
                    connection.execute(f"LISTEN {self._scope.channel}")
                    if down:
                        _log.warning("the link to the database is up again")
                    down = False
                    self._follow(connection)
            except (psycopg.Error, _Refused) as error:
                if not down:
                    reason = str(error).strip()
                    _log.warning("the link to the database is down", reason=reason)
                down = True
            except Exception:  # noqa: BLE001  logged; without the link nothing would go on
                _log.exception("the link failed, and is made anew")
                down = True
            finally:
                self.leads = False
            self._stopping.wait(_PERIOD_SECONDS)

    def _follow(self, connection: "psycopg.Connection[Any]") -> None:
        self._look_at_everything()  # what was not heard before
        measured = looked = float("-inf")
        while not self._stopping.is_set():
            if time.monotonic() - measured > _CLOCK_SECONDS:
                measure(connection, self._source)
                measured = time.monotonic()
            if time.monotonic() - looked > _PERIOD_SECONDS:
                # A job may have been locked by another server when it was looked for.
                self._peers.jobs_came(None)
                if not self.leads:
                    self._stand(connection)
                looked = time.monotonic()
            for notice in connection.notifies(timeout=_PERIOD_SECONDS / 4):
                self._hear(notice.payload)

    def _share(self, connection: "psycopg.Connection[Any]") -> None:
        if not self._scope.take_shared(connection):
            raise _Refused("another command has taken the database for itself")

    def _stand(self, connection: "psycopg.Connection[Any]") -> None:
        self.leads = self._scope.lead(connection)
        if self.leads:
            _log.info("the background duties are this server's")

    def _hear(self, payload: str) -> None:
        found = _PAYLOAD.fullmatch(payload)
        if found is None:
            self._look_at_everything()  # by another version, or by somebody's hand
        elif found["token"] == self._token:
            return
        elif found["kind"] == _SHARED:
            self._peers.shared_changed()
        else:
            what = found["what"]
            self._peers.jobs_came(None if what == _ANY else list(map(int, what.split(","))))

    def _look_at_everything(self) -> None:
        self._peers.jobs_came(None)
        self._peers.shared_changed()
