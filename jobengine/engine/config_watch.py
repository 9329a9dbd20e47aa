"""The config file, watched: a change is applied without a restart."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from jobengine.config.document import settings_in
from jobengine.config.settings import Settings
from jobengine.domain.errors import ConfigRefused, JobEngineError
from jobengine.threads import ServiceThread

# Looked at by its time and content: what is mounted into a container sends no events.
_PERIOD_SECONDS = 2.0

_log = structlog.get_logger(component="config")

_Stamp = tuple[int, int, int]


class Looked(msgspec.Struct, frozen=True):
    """What came of applying the file: when, in seconds since the Unix epoch, and why not."""

    time: int
    refused: str = ""


class ConfigWatch:
    """Looks at the file now and then, and applies it when it has changed.

    A change is applied when two looks have found the same: a file that is being
    written may be good YAML and yet lack the half of its queues.
    """

    def __init__(
        self, path: Path, apply: Callable[[Settings], None], now: Callable[[], int]
    ) -> None:
        """`apply` takes the settings over, or raises ConfigRefused and changes nothing."""
        self._now = now
        # What came of the last reload; None where there was none.
        self.looked: Looked | None = None
        self._path = path
        self._apply = apply
        self._asked = threading.Event()
        self._stopping = False
        self.thread = ServiceThread("config", self._run)
        self._stamp = self._look()
        self._applied = self._unsettled = self._digest()

    def start(self) -> None:
        """Begins to look."""
        self.thread.start()

    def ask(self) -> None:
        """Has the file applied at once, changed or not; may be called from a signal handler."""
        self._asked.set()

    def stop(self) -> None:
        """Ends."""
        self._stopping = True
        self._asked.set()
        self.thread.stop()

    def _run(self) -> None:
        while not self._stopping:
            if self._asked.wait(_PERIOD_SECONDS):
                self._asked.clear()
                if not self._stopping:
                    self._reload()
            else:
                self.look()

    def look(self) -> None:
        """Applies the file where it has changed and is no longer changing."""
        stamp = self._look()
        if stamp == self._stamp and self._unsettled == self._applied:
            return
        self._stamp = stamp
        found = self._digest()
        settled, self._unsettled = found == self._unsettled, found
        if settled and found != self._applied:
            self._reload()

    def _reload(self) -> None:
        try:
            data = self._path.read_bytes()
        except OSError as error:
            self._applied = self._unsettled = b""
            self._note(f"it cannot be read: {error.strerror}")
            _log.error("the config cannot be read; nothing is changed", reason=error.strerror)
            return
        self._applied = self._unsettled = hashlib.sha256(data).digest()
        try:
            self._apply(settings_in(data, f"the config {self._path}"))
        except ConfigRefused as error:
            self._note("; ".join(error.mistakes))
            _log.error("the config is refused; nothing is changed", mistakes=error.mistakes)
        except JobEngineError as error:
            self._note(f"{error}; it is tried again")
            _log.error("the config could not be applied; it is tried again", reason=str(error))
            self._applied = b""
        except Exception:  # noqa: BLE001  logged; the next change is to be seen all the same
            self._note("it could not be applied; the log says why")
            _log.exception("the config could not be applied")
        else:
            self._note()
            _log.info("config applied", path=str(self._path))

    def _note(self, refused: str = "") -> None:
        self.looked = Looked(self._now(), refused)

    def _look(self) -> _Stamp | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _digest(self) -> bytes:
        """What the file holds; nothing where it is not there."""
        try:
            return hashlib.sha256(self._path.read_bytes()).digest()
        except OSError:
            return b""
