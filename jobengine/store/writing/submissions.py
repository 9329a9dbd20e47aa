"""What a caller hands over at once: one unit to commit or undo, and to wait for."""

from collections.abc import Sequence
from typing import Any

from jobengine.domain.errors import OutcomeUnknown
from jobengine.store.writing.latches import new_latch
from jobengine.store.writing.operations import Claim, Operation

_PARTLY = (
    "what was sent with the claim has been made, and the claim has failed: look before you "
    "send it again"
)


class Submission:
    """Operations of one caller, done together or not at all, and the latch that it waits for.

    Made on the caller's thread, whose kind the latch depends on.
    """

    __slots__ = ("begun", "latch", "operations", "weight")

    def __init__(self, operations: Sequence[Operation[Any]]) -> None:
        self.operations = operations
        self.latch = new_latch()
        # In jobs, or what takes as long.
        self.weight = sum([operation.weight for operation in operations])
        # Whether a batch before has committed other operations of it.
        self.begun = False

    def refuse(self, error: Exception) -> None:
        """Notes the error that the caller gets, unless a part of it is done already."""
        if self.begun:
            error = OutcomeUnknown(_PARTLY)
        for operation in self.operations:
            operation.refuse(error)

    def go_on(self, claim: Claim) -> None:
        """Keeps the claim alone, which comes last and is left to do."""
        self.begun = claim.left = self.begun or len(self.operations) > 1
        self.operations = [claim]
        self.weight = claim.weight
