"""Expiry: a job that was not claimed in time is deleted."""

from collections import Counter

from sqlalchemy import Connection

from jobengine.engine.duties.duty import CHUNK, Sweep
from jobengine.store import sweeps


class Expire(Sweep):
    """Deletes queued jobs whose timeout_time has passed."""

    event = "jobs expired"
    deletes = True

    def touch(self, connection: Connection, now: int) -> Counter[int]:
        """See Sweep."""
        return sweeps.expire(connection, now, CHUNK)
