"""How a caller waits for the writer: by blocking its thread, or as its server prefers."""

import threading
from collections.abc import Callable
from typing import Protocol


class Latch(Protocol):
    """Opens once; who waits for it goes on then."""

    def wait(self) -> None:
        """Returns when the latch is open."""

    def open(self) -> None:
        """Opens it; called once, from any thread."""


class ThreadLatch:
    """Blocks the thread that waits.

    A bare lock, taken now and freed by `open`, is the cheapest hand-off between two
    threads: a threading.Event costs three times as much.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self) -> None:
        """Returns when the latch is open."""
        self._lock.acquire()

    def open(self) -> None:
        """Opens it."""
        self._lock.release()


_here = threading.local()


def new_latch() -> Latch:
    """A latch for a caller on this thread."""
    factory: Callable[[], Latch] = getattr(_here, "factory", ThreadLatch)
    return factory()


def use_on_this_thread(factory: Callable[[], Latch]) -> None:
    """Makes callers on this thread wait by latches of the factory."""
    _here.factory = factory
