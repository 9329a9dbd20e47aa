"""Notices that the database, or its log, was taken away or replaced under the server."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import structlog

from jobengine.domain.errors import StoreFailed
from jobengine.store.sqlcipher.held import Identity, identity, log_identity

# How long a look counts: what is written meanwhile to a file without a name is lost.
_PERIOD_SECONDS = 1.0

_log = structlog.get_logger(component="store")


class Watch:
    """Compares the files at the database's paths with those that were opened.

    What was found once stays so: connections are to the old files, and whatever lies there
    later may have been written by others. Any thread may ask.
    """

    def __init__(self, database: Path, opened: Identity) -> None:
        self._database = database
        self._opened = opened
        self._log: Identity | None = None  # there once SQLite has made it
        self._looked = time.monotonic()
        self._lock = threading.Lock()
        self._moved = ""  # what was, in words; sticky

    def begin_log(self) -> None:
        """Watches the -wal, too, as it is now."""
        self._log = log_identity(self._database)

    def ends_moved(self) -> bool:
        """Looks for the last time at the log, which goes with its last connection."""
        with suppress(StoreFailed):
            self.look_now()
        self._log = None
        return bool(self._moved)

    def look(self) -> None:
        """Looks at most once a second. Raises StoreFailed where something was moved."""
        if time.monotonic() - self._looked < _PERIOD_SECONDS and not self._moved:
            return
        self.look_now()

    def look_now(self) -> None:
        """Raises StoreFailed where something was moved."""
        with self._lock:
            self._looked = time.monotonic()
            if not self._moved and (moved := self._find()):
                self._moved = moved
                _log.error(
                    "removed or replaced under the server: nothing is written any more; stop the "
                    "server, put the files back, and start it again",
                    what=moved,
                    database=str(self._database),
                )
        if self._moved:
            raise StoreFailed(
                f"{self._moved} was removed or replaced under the server, which must be stopped"
            )

    def _find(self) -> str:
        if identity(self._database) != self._opened:
            return "the database file"
        if self._log is not None and log_identity(self._database) != self._log:
            return "the database's log (-wal)"
        return ""
