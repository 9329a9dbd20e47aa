"""A clock that stands still until a test turns it, shared with the server's process."""

import mmap
import struct
from pathlib import Path

from jobengine.domain.clock import SystemClock

START = 1_800_000_000
_TIME = struct.Struct("<q?")


class FileClock:
    """A Clock that reads its time from a file, which a test in another process writes."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_TIME.pack(START, True))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _TIME.size)
        self.path = path
        self._since_start: SystemClock | None = None

    def now(self) -> int:
        return int(_TIME.unpack_from(self._map)[0])

    def wall(self) -> float:
        return float(self.now())

    def elapsed(self) -> float:
        return float(self.now())

    def steady(self) -> bool:
        started = self._since_start is None or self._since_start.steady()
        return started and bool(_TIME.unpack_from(self._map)[1])

    def start_from(self, seen: int) -> None:
        self._since_start = SystemClock(self)
        self._since_start.start_from(seen)

    def set(self, now: int, *, steady: bool = True) -> None:
        _TIME.pack_into(self._map, 0, now, steady)

    def advance(self, seconds: int) -> None:
        self.set(self.now() + seconds)
