"""The audit trail, read."""

from jobengine.domain.audit import Entry
from jobengine.store.reads import Reads
from jobengine.store.tables import audit as store


class Audit:
    """Who administered what."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def entries(self, since: int = 0, before: int | None = None, limit: int = 100) -> list[Entry]:
        """Up to `limit` entries of the time `since` and later, the newest first.

        `before` is the id of the last one of the page before. Raises StoreFailed.
        """
        with self._reads.connection() as connection:
            return store.entries(connection, since, before, limit)
