"""Threads that the service needs: one that dies is logged, and started again."""

import threading
from collections.abc import Callable

import structlog

# Between the death of a loop and its next start.
_PAUSE_SECONDS = 1.0

_log = structlog.get_logger(component="threads")


class ServiceThread:
    """Runs a loop on a thread of its own until its owner asks it to end."""

    def __init__(self, name: str, loop: Callable[[], None]) -> None:
        """`loop` returns when its owner wants it to, and may be called again after it raised."""
        self.name = name
        self._loop = loop
        self._ending = threading.Event()
        self._died = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begins to run the loop."""
        self._thread.start()

    def stop(self) -> None:
        """Waits for the end of the loop, which its owner has asked for."""
        self._ending.set()
        if self.started:
            self._thread.join()

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        return self._thread.ident is not None

    @property
    def works(self) -> bool:
        """False from the death of the loop to its next start, or where the thread is gone."""
        wanted = self.started and not self._ending.is_set()
        return not wanted or (self._thread.is_alive() and not self._died)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._loop()
            except BaseException:  # noqa: BLE001  logged; SystemExit ends a thread without a word
                self._died = True
                _log.exception("a thread died, and is started again", thread=self.name)
                self._ending.wait(_PAUSE_SECONDS)
                self._died = False
            else:
                return
