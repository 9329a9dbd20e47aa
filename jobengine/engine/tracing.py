"""What the use cases tell of a call to whoever traces it: never a content."""

from collections.abc import Sequence
from enum import Enum
from typing import Protocol


class Operation(Enum):
    """What a call does with jobs."""

    CREATE = "create"
    CLAIM = "claim"
    UPDATE = "update"
    DELETE = "delete"


class Tracing(Protocol):
    """Traces the call that is being answered, on the thread or the fiber that answers it."""

    def creator(self) -> str | None:
        """The W3C traceparent that came with the call; None without a valid one."""

    def note(
        self, operation: Operation, queue: str, uids: Sequence[str], creators: Sequence[str] = ()
    ) -> None:
        """Notes what the call did, to the jobs of these uids; once a call.

        `creators` are the traceparents that the jobs it claimed were created with.
        """
