"""The thread that runs the duties."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from jobengine.domain.clock import SETTLE_SECONDS, Clock
from jobengine.domain.errors import Stopping
from jobengine.engine.duties.duty import Duty
from jobengine.threads import ServiceThread

# Between two looks at whether there is something to do.
_PERIOD_SECONDS = 1.0
# How often a long backlog reports what it has done so far.
_REPORT_SECONDS = 5.0

_log = structlog.get_logger(component="duties")


def _always() -> bool:
    return True


class DutyRunner:
    """Runs each duty once a second, and goes on for as long as one has more to do."""

    def __init__(
        self,
        duties: Sequence[Duty],
        clock: Clock,
        leads: Callable[[], bool] = _always,
        own: Sequence[Duty] = (),
    ) -> None:
        """`leads` says whether the duties are this server's to do; its `own` ones always are."""
        self._duties = duties
        self._own = own
        self._leads = leads
        self._clock = clock
        self._steady = True
        self._stop = threading.Event()
        self.thread = ServiceThread("duties", self._run)

    def start(self) -> None:
        """Begins to run them."""
        self.thread.start()

    def stop(self) -> None:
        """Ends after the chunk in hand."""
        self._stop.set()
        self.thread.stop()

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            self._run_own()
            if self._leads():
                self.run_once()

    def run_once(self) -> None:
        """Works off everything there is to do now, a chunk of each duty in turn."""
        self._watch_clock()
        done: dict[str, Counter[str]] = {duty.event: Counter() for duty in self._duties}
        pending, reported = list(self._duties), time.monotonic()
        while pending and not self._stop.is_set():
            self._run_own()  # a long backlog must not hold them up
            pending = [duty for duty in pending if self._chunk(duty, done[duty.event])]
            if time.monotonic() - reported > _REPORT_SECONDS:
                self._report(done)
                reported = time.monotonic()
        self._report(done)

    def _run_own(self) -> None:
        for duty in self._own:
            self._chunk(duty, Counter())

    def _watch_clock(self) -> None:
        steady = self._clock.steady()
        if self._steady and not steady:
            _log.warning(
                "the clock jumped forward, or the server was stopped for a while: no job is failed "
                "or deleted for good until that has lasted",
                seconds=SETTLE_SECONDS,
            )
        elif steady and not self._steady:
            _log.warning("the clock is trusted again")
        self._steady = steady

    def _chunk(self, duty: Duty, total: Counter[str]) -> bool:
        try:
            counts, more = duty.chunk()
        except Stopping:
            return False
        except Exception:  # noqa: BLE001  logged; the other duties must go on
            _log.exception("a duty failed, and will be tried again", duty=duty.event)
            return False
        total.update(counts)
        return more

    def _report(self, done: dict[str, Counter[str]]) -> None:
        for event, counts in done.items():
            for name, jobs in counts.items():
                if jobs:
                    _log.info(event, queue=name, jobs=jobs)
            counts.clear()
