"""How the contents of jobs lie in the table: as they are, or each sealed by itself."""

from typing import Protocol


class Contents(Protocol):
    """Turns a job's content into what is stored, and back."""

    def seal(self, uid: bytes, content: bytes) -> bytes:
        """The content of the job, as it is stored."""

    def open(self, uid: bytes, sealed: bytes) -> bytes:
        """The content of the job, from what is stored. Raises StoreFailed where it is damaged."""


class Plain:
    """As they are, for a database that is encrypted as a whole."""

    def seal(self, _uid: bytes, content: bytes) -> bytes:
        """See Contents."""
        return content

    def open(self, _uid: bytes, sealed: bytes) -> bytes:
        """See Contents."""
        return sealed
