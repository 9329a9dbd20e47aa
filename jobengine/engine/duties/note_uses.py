"""The last use of keys: noted in the database now and then, not at each call."""

from collections import Counter

from jobengine.engine.keys import Keys


class NoteUses:
    """Notes when keys were last used here."""

    event = "uses of keys noted"

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def chunk(self) -> tuple[Counter[str], bool]:
        """See Duty. No jobs are touched."""
        uses = self._keys.unnoted_uses()
        if uses:
            self._keys.note_uses(uses)
        return Counter(), False
