"""Time, as the whole of JobEngine sees it: whole seconds since the Unix epoch."""

import time
from typing import Protocol

# A forward step is what NTP never does by slewing (at most 0.5 ms a second); this
# leaves room for a process that was stopped between two readings.
JUMP_SECONDS = 30
# How long a forward jump must last before the duties that fail and delete jobs believe it.
SETTLE_SECONDS = 600


class Clock(Protocol):
    """Says what time it is. Production has SystemClock; tests inject their own."""

    def now(self) -> int:
        """Whole seconds since the Unix epoch."""

    def elapsed(self) -> float:
        """Seconds since some fixed point, never set: what waits are measured by."""

    def steady(self) -> bool:
        """Whether the time may be trusted to fail and delete jobs by."""

    def start_from(self, seen: int) -> None:
        """Takes a time that is ahead of `seen`, the newest in the database, for a jump."""


class ClockSource(Protocol):
    """The two readings that SystemClock compares."""

    def wall(self) -> float:
        """Seconds since the Unix epoch; may be set by hand or by NTP."""

    def elapsed(self) -> float:
        """Seconds since some fixed point, never set, counting while suspended."""


class SystemSource:
    """The operating system's clocks."""

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def elapsed(self) -> float:
        """Seconds since boot, those spent suspended included where the system can tell."""
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()


class SteeredSource(SystemSource):
    """A wall clock kept elsewhere, as last seen there, and carried on by `elapsed`."""

    def __init__(self) -> None:
        self._offset = super().wall() - self.elapsed()

    def wall(self) -> float:
        """Seconds since the Unix epoch, by the clock that it is steered by."""
        return self.elapsed() + self._offset

    def steer(self, wall: float, at: float) -> None:
        """Notes what the other clock showed when `elapsed` was `at`."""
        self._offset = wall - at


class SystemClock:
    """The machine's clock, distrusted for a while after it jumped forward.

    A clock that is set a day ahead by mistake must not delete a day of jobs in
    the minute before it is set right, be it before the start or after it. `now` follows
    the wall clock at once, so that no expired job is handed out; `steady` stays false
    until the jump has lasted SETTLE_SECONDS.
    """

    def __init__(self, source: ClockSource | None = None) -> None:
        self._source = source or SystemSource()
        self._offset = self._source.wall() - self._source.elapsed()
        self._jumped_at: float | None = None

    def now(self) -> int:
        """Whole seconds since the Unix epoch."""
        return int(self._source.wall())

    def elapsed(self) -> float:
        """Seconds since some fixed point; never set."""
        return self._source.elapsed()

    def start_from(self, seen: int) -> None:
        """Distrusts a time that is over JUMP_SECONDS ahead of `seen`, as after a jump.

        That the server was stopped for so long looks the same, and costs late sweeps alone.
        """
        self._offset = min(self._offset, seen - self._source.elapsed())

    def steady(self) -> bool:
        """Whether no forward jump of over JUMP_SECONDS is younger than SETTLE_SECONDS."""
        elapsed = self._source.elapsed()
        offset = self._source.wall() - elapsed
        ahead = offset - self._offset
        if ahead <= JUMP_SECONDS:
            # Follows slewing and steps back, so that a slow drift never adds up to a jump.
            self._offset, self._jumped_at = offset, None
            return True
        if self._jumped_at is None:
            self._jumped_at = elapsed
        if elapsed - self._jumped_at < SETTLE_SECONDS:
            return False
        self._offset, self._jumped_at = offset, None
        return True
