"""Queues and keys that could not be read when they had changed: read as soon as they can be."""

from collections import Counter
from typing import Protocol


class Shared(Protocol):
    """What servers on one database all go by."""

    @property
    def stale(self) -> bool:
        """Whether it may not be what the database has."""

    def shared_changed(self) -> None:
        """Reads it again."""


class Refresh:
    """Reads the queues and the keys again where that failed: a revoked key must not stay good."""

    event = "queues and keys read again"

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def chunk(self) -> tuple[Counter[str], bool]:
        """See Duty. No jobs are touched."""
        if self._shared.stale:
            self._shared.shared_changed()
        return Counter(), False
