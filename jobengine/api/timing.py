"""How long requests take, by route and status."""

import threading
import time
from collections.abc import Mapping

from falcon import Request, Response

from jobengine.domain.durations import Cumulative, Histogram

# In seconds, up to what a claim may wait.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"})

# A request's method, the template of its route, and the status of its answer.
Kind = tuple[str, str, int]
_Times = dict[Kind, Histogram]


class Timing:
    """Falcon middleware: times each request, until its answer is known.

    Each thread counts for itself, without a lock; who reads adds them up.
    """

    def __init__(self) -> None:
        self._here = threading.local()
        self._lock = threading.Lock()  # of the two below; a thread takes it at its first request
        self._of_threads: list[tuple[threading.Thread, _Times]] = []
        self._of_the_ended: _Times = {}

    def process_response(
        self, req: Request, resp: Response, _resource: object, _succeeded: bool
    ) -> None:
        """Counts the request. `AccessLog` noted when it came."""
        # What a client makes up is no label: there would be no end of them.
        method = req.method if req.method in _METHODS else "other"
        kind = method, req.uri_template or "none", resp.status_code
        times: _Times | None = getattr(self._here, "times", None)
        if times is None:
            times = self._begin()
        histogram = times.get(kind)
        if histogram is None:
            histogram = times[kind] = Histogram(BOUNDS)
        now = time.perf_counter()
        # As in AccessLog: a request that is refused before all else has no beginning.
        histogram.observe(now - getattr(req.context, "began", now))

    def read(self) -> Mapping[Kind, Cumulative]:
        """The times of all requests, in seconds."""
        together: _Times = {}
        with self._lock:
            for times in (self._of_the_ended, *(times for _, times in self._of_threads)):
                _add(together, times)
        return {kind: histogram.cumulative() for kind, histogram in together.items()}

    def _begin(self) -> _Times:
        """A place for the times of this thread; those of threads that have ended are joined."""
        times: _Times = {}
        self._here.times = times
        with self._lock:
            alive = []
            for each in self._of_threads:
                if each[0].is_alive():
                    alive.append(each)
                else:
                    _add(self._of_the_ended, each[1])
            self._of_threads = [*alive, (threading.current_thread(), times)]
        return times


def _add(together: _Times, times: _Times) -> None:
    for kind, histogram in list(times.items()):
        together.setdefault(kind, Histogram(BOUNDS)).add(histogram)
