"""The in-progress window: a job that nobody updates fails."""

from collections import Counter

from sqlalchemy import Connection

from jobengine.engine.duties.duty import CHUNK, Sweep
from jobengine.store import sweeps


class Fail(Sweep):
    """Fails jobs that were in progress for longer than their queue's window."""

    event = "jobs failed by their window"
    deletes = False

    def touch(self, connection: Connection, now: int) -> Counter[int]:
        """See Sweep."""
        return sweeps.fail(connection, now, CHUNK)
