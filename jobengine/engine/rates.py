"""How often each service may call, as the config says; counted by each server for itself."""

import math
from collections.abc import Callable

import msgspec
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from jobengine.config.settings import Rate, Settings
from jobengine.domain.clock import SystemSource


class Usage(msgspec.Struct, frozen=True):
    """Where a service stands with its rate: `calls` in `seconds`, of which some are left.

    `reset` is in how many whole seconds there will be more; `exceeded` says that this call
    is one too many.
    """

    calls: int
    seconds: int
    remaining: int
    reset: int
    exceeded: bool


class Rates:
    """Counts calls. A sliding window over two counters: nothing is kept for each call."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        """`settings` gives those that are in force."""
        self._settings = settings
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._wall = SystemSource().wall  # which the limiter goes by

    def use(self, service: str) -> Usage | None:
        """Counts a call of the service, unless it is one too many; None without a limit."""
        settings = self._settings()
        rate = settings.services.get(service, settings.rate_limit)
        if rate is None:
            return None
        item = RateLimitItemPerSecond(rate.calls, rate.seconds)
        exceeded = not self._limiter.hit(item, service)
        return self._usage(rate, item, service, exceeded=exceeded)

    def _usage(
        self, rate: Rate, item: RateLimitItemPerSecond, service: str, *, exceeded: bool
    ) -> Usage:
        reset, remaining = self._limiter.get_window_stats(item, service)
        seconds = max(1, math.ceil(reset - self._wall()))
        return Usage(rate.calls, rate.seconds, remaining, min(seconds, rate.seconds), exceeded)
