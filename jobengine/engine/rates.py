"""How often each service may call, as the config says; counted by each server for itself."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

import msgspec

from jobengine.config.settings import Rate, Settings

# Of those that are counted, which with `authentication: none` clients invent where a queue is
# anyone's. The one that has not called for longest is forgotten.
SERVICES_MAX = 10_000


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
    """Counts the calls of the services that have any right; another's call is refused anyway."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        knows: Callable[[str], bool],
        elapsed: Callable[[], float],
    ) -> None:
        """`settings` gives those in force; `knows` says whether a service has any right."""
        self._settings = settings
        self._knows = knows
        self._elapsed = elapsed
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._counting = Lock()

    def use(self, service: str) -> Usage | None:
        """Counts a call of the service, unless it is one too many; None without a limit."""
        settings = self._settings()
        rate = settings.services.get(service, settings.rate_limit)
        if rate is None or not (service in settings.services or self._knows(service)):
            return None
        with self._counting:
            now = self._elapsed()
            window = self._windows.get(service)
            if window is None or window.rate != rate:
                window = self._windows[service] = _Window(rate, now)
            self._windows.move_to_end(service)
            if len(self._windows) > SERVICES_MAX:
                self._windows.popitem(last=False)
            return window.use(now)


class _Window:
    """A sliding window over two counters: nothing is kept for each call.

    The calls of the window before count by the share of it that the last `seconds` reach into,
    as if they had come evenly.
    """

    __slots__ = ("_before", "_began", "_calls", "rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self._began = now
        self._calls = self._before = 0

    def use(self, now: float) -> Usage:
        """Counts a call, unless it is one too many."""
        limit, seconds = self.rate.calls, self.rate.seconds
        self._turn(now)
        earlier = int(self._before * (1 - (now - self._began) / seconds))
        exceeded = earlier + self._calls >= limit
        if not exceeded:
            self._calls += 1
        left = max(0, limit - earlier - self._calls)
        return Usage(limit, seconds, left, self._reset(now, earlier), exceeded)

    def _turn(self, now: float) -> None:
        passed = int((now - self._began) // self.rate.seconds)
        if passed:
            self._before = self._calls if passed == 1 else 0
            self._calls = 0
            self._began += passed * self.rate.seconds

    def _reset(self, now: float, earlier: int) -> int:
        """The first whole second at which one of `earlier` no longer counts, or the next window."""
        share = 1 - earlier / self._before if earlier else 1
        return min(int(self._began + share * self.rate.seconds - now) + 1, self.rate.seconds)
