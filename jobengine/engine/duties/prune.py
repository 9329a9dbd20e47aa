"""The keep time: a finished job is deleted when it is over."""

from collections import Counter

from sqlalchemy import Connection

from jobengine.engine.duties.duty import CHUNK, Sweep
from jobengine.store import sweeps


class Prune(Sweep):
    """Deletes complete and failed jobs whose keep time has passed."""

    event = "jobs pruned"
    deletes = True

    def touch(self, connection: Connection, now: int) -> Counter[int]:
        """See Sweep."""
        return sweeps.prune(connection, now, CHUNK)
