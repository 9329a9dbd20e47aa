"""What a check of a database finds, and how it tells how far it has come."""

from collections.abc import Callable
from dataclasses import dataclass, field

from jobengine.domain.errors import CannotOpen

# Told what is being done, how much of it is done, and how much there is in all.
Tell = Callable[[str, int, int], None]


@dataclass(slots=True)
class Findings:
    """How much a database holds, and all that is wrong with it, a sentence each."""

    jobs: int = 0
    queues: int = 0
    damage: list[str] = field(default_factory=list)

    def refuse(self, what: str) -> None:
        """Raises CannotOpen where anything is wrong, with all of it."""
        if self.damage:
            lines = "".join(f"\n  - {damage}" for damage in self.damage)
            raise CannotOpen(f"{what}:{lines}")
