"""Expiry: a job that was not claimed in time is deleted."""

from collections import Counter

from sqlalchemy import Connection

from jobengine.engine.duties.duty import CHUNK, SweepDuty
from jobengine.store.tables import sweeps
from jobengine.store.tables.tally import Tally


class Expire(SweepDuty):
    """Deletes queued jobs whose timeout_time has passed."""

    event = "jobs expired"

    def touch(self, connection: Connection, tally: Tally, now: int) -> Counter[int]:
        """See SweepDuty."""
        return sweeps.expire(connection, tally, now, CHUNK)
