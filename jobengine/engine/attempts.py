"""How often a login may fail before the next one must wait; counted by each server for itself."""

import math
from collections.abc import Sequence
from threading import Lock

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from jobengine.domain.clock import SystemSource
from jobengine.domain.errors import RateExceeded

_WINDOW_SECONDS = 5 * 60
_PER_NAME = RateLimitItemPerSecond(5, _WINDOW_SECONDS, "name")
_PER_ADDRESS = RateLimitItemPerSecond(20, _WINDOW_SECONDS, "address")
_PER_BROWSER = RateLimitItemPerSecond(5, _WINDOW_SECONDS, "browser")

Counters = Sequence[tuple[RateLimitItemPerSecond, str]]


def counters(name: str, address: str, *, known: bool) -> Counters:
    """Those that a login counts in.

    A browser that the user has logged in with before is known, and has a counter of its own:
    who guesses at a name locks others out of it who are new, but not the user. Nothing but
    the address tells one client from another, and behind a proxy not even that.
    """
    if known:
        return [(_PER_BROWSER, name)]
    return [(_PER_NAME, name), (_PER_ADDRESS, address)]


class Attempts:
    """Counts failures over a moving window of five minutes.

    A storage keeps every name and address that it has ever counted, which clients choose. So
    there are two that count, and after each window the younger one, which has seen all of it,
    takes the place of the older.
    """

    def __init__(self) -> None:
        self._limiter, self._younger = _limiter(), _limiter()
        source = SystemSource()
        self._wall, self._elapsed = source.wall, source.elapsed  # the limiter goes by the former
        self._turn = self._elapsed() + _WINDOW_SECONDS
        self._turning = Lock()

    def check(self, counted: Counters) -> None:
        """Raises RateExceeded where one of the counters is full."""
        waits = [
            self._wait(item, who) for item, who in counted if not self._limiter.test(item, who)
        ]
        if waits:
            raise RateExceeded(
                f"too many logins failed: wait {max(waits)} seconds", retry_after=max(waits)
            )

    def failed(self, counted: Counters) -> None:
        """Counts a failure."""
        with self._turning:
            if self._elapsed() >= self._turn:
                self._turn = self._elapsed() + _WINDOW_SECONDS
                self._limiter, self._younger = self._younger, _limiter()
        for item, who in counted:
            self._limiter.hit(item, who)
            self._younger.hit(item, who)

    def _wait(self, item: RateLimitItemPerSecond, who: str) -> int:
        reset, _ = self._limiter.get_window_stats(item, who)
        return min(max(1, math.ceil(reset - self._wall())), _WINDOW_SECONDS)


def _limiter() -> MovingWindowRateLimiter:
    return MovingWindowRateLimiter(MemoryStorage())
