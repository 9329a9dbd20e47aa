"""Has a server notice that its database was taken away, though nobody calls it."""

from collections import Counter
from contextlib import suppress

from jobengine.domain.errors import StoreFailed
from jobengine.store.database import Database


class WatchPlace:
    """Looks whether the database is still where it was opened, which logs that it is not."""

    event = "the place of the database looked at"

    def __init__(self, database: Database) -> None:
        self._database = database

    def chunk(self) -> tuple[Counter[str], bool]:
        """See Duty. No jobs are touched."""
        with suppress(StoreFailed):
            self._database.check()
        return Counter(), False
