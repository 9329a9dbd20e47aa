"""How often a login may fail before the next one must wait; counted by each server for itself."""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import NamedTuple

from jobengine.domain.errors import RateExceeded, Unauthenticated

_WINDOW_SECONDS = 5 * 60
# Of the names and addresses with a failure. To have one forgotten early takes this many
# failed logins in five minutes, which is more than a server can verify.
COUNTERS_MAX = 10_000


class Counter(NamedTuple):
    """What failures are counted for: a name, an address or a browser."""

    kind: str
    who: str
    failures_max: int


def counters(name: str, address: str, *, known: bool) -> Sequence[Counter]:
    """Those that a login counts in.

    A browser that the user has logged in with before is known, and has a counter of its own:
    who guesses at a name locks others out of it who are new, but not the user. Nothing but
    the address tells one client from another, and behind a proxy not even that.
    """
    if known:
        return [Counter("browser", name, 5)]
    return [Counter("name", name, 5), Counter("address", address, 20)]


class Attempts:
    """Counts failures over a moving window of five minutes.

    An attempt counts from its beginning, before a password is verified: of many at once no more
    are verified than of as many in turn.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        # The times of failures; the counter that got its last one first comes first.
        self._failed: OrderedDict[Counter, deque[float]] = OrderedDict()
        self._counting = Lock()

    @contextmanager
    def attempt(self, counted: Sequence[Counter]) -> Iterator[None]:
        """Around a login, which has failed where Unauthenticated is raised in it.

        Raises RateExceeded where one of the counters is full.
        """
        began, failed = self._begin(counted), False
        try:
            yield
        except Unauthenticated:
            failed = True
            raise
        finally:
            if not failed:
                self._take_back(counted, began)

    def _begin(self, counted: Sequence[Counter]) -> float:
        with self._counting:
            now = self._elapsed()
            self._forget(now)
            wait = max(self._wait(counter, now) for counter in counted)
            if wait:
                raise RateExceeded(f"too many logins failed: wait {wait} seconds", retry_after=wait)
            for counter in counted:
                self._failed.setdefault(counter, deque()).append(now)
                self._failed.move_to_end(counter)
            while len(self._failed) > COUNTERS_MAX:
                self._failed.popitem(last=False)
        return now

    def _wait(self, counter: Counter, now: float) -> int:
        """In how many seconds it has room; 0 where it has."""
        times = self._failed.get(counter, deque[float]())
        while times and times[0] <= now - _WINDOW_SECONDS:
            times.popleft()
        if len(times) < counter.failures_max:
            return 0
        return math.ceil(times[0] + _WINDOW_SECONDS - now)

    def _forget(self, now: float) -> None:
        """Drops the counters whose last failure is over."""
        while self._failed:
            counter, times = next(iter(self._failed.items()))
            if times and times[-1] > now - _WINDOW_SECONDS:
                return
            del self._failed[counter]

    def _take_back(self, counted: Sequence[Counter], began: float) -> None:
        with self._counting:
            for counter in counted:
                times = self._failed.get(counter)
                if times is not None and began in times:
                    times.remove(began)
