"""The keep time: a finished job is deleted when it is over."""

from collections import Counter

from sqlalchemy import Connection

from jobengine.engine.duties.duty import CHUNK, SweepDuty
from jobengine.store.tables import sweeps
from jobengine.store.tables.tally import Tally


class Prune(SweepDuty):
    """Deletes complete and failed jobs whose keep time has passed."""

    event = "jobs pruned"

    def touch(self, connection: Connection, tally: Tally, now: int) -> Counter[int]:
        """See SweepDuty."""
        return sweeps.prune(connection, tally, now, CHUNK)
