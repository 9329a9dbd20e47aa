"""Fibers: calls that wait for the writer without a thread each.

A call that writes waits for a commit, some fractions of a millisecond. A thread that
blocks for it and is woken costs more than all the rest of the call, since each switch
hands over the GIL; here the server's own thread runs the call in a greenlet, parks it
while it waits, and goes on with the next.
"""

from collections import deque
from collections.abc import Callable

from greenlet import getcurrent, greenlet

from jobengine.store.writing.latches import Latch, ThreadLatch


class Fibers:
    """Runs calls in greenlets on the thread that made it. Only `_Latch.open` is for others."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` makes the thread call `run` soon; it may be called from any thread."""
        self._hub = getcurrent()
        self._wake = wake
        self._new: deque[Callable[[], None]] = deque()
        self._open: deque[_Latch] = deque()

    def add(self, call: Callable[[], None]) -> None:
        """Has the call run by the next `run`."""
        self._new.append(call)

    def run(self) -> None:
        """Runs what has been added, and goes on with what no longer waits."""
        while self._open or self._new:
            while self._open:
                self._open.popleft().resume()
            while self._new:
                greenlet(self._new.popleft(), self._hub).switch()

    def inside(self) -> bool:
        """Whether the caller runs in a fiber."""
        return getcurrent().parent is self._hub

    def latch(self) -> Latch:
        """A latch for the caller: one that parks, where it runs in a fiber."""
        return _Latch(self) if self.inside() else ThreadLatch()

    def opened(self, latch: "_Latch") -> None:
        """Notes an open latch, and wakes the thread where it may be asleep."""
        self._open.append(latch)
        if len(self._open) == 1:
            self._wake()

    def park(self) -> None:
        """Leaves the fiber until its latch is open."""
        self._hub.switch()


class _Latch:
    """Parks the fiber that waits."""

    __slots__ = ("_fiber", "_fibers", "_is_open")

    def __init__(self, fibers: Fibers) -> None:
        self._fibers = fibers
        self._fiber: greenlet | None = None
        self._is_open = False

    def wait(self) -> None:
        """Returns when the latch is open; only its own thread reads and sets the flag."""
        if not self._is_open:
            self._fiber = getcurrent()
            self._fibers.park()

    def open(self) -> None:
        """Opens it; called from the writer's thread."""
        self._fibers.opened(self)

    def resume(self) -> None:
        """Goes on with the fiber, where it waits already."""
        self._is_open = True
        if self._fiber is not None:
            self._fiber.switch()
