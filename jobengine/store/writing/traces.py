"""The traces that claimed jobs were created with: read for the claims that ask, by themselves.

They lie behind the contents, so a claim that nobody traces reads nothing of them.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from jobengine.domain.uids import uid_bytes, uid_text
from jobengine.store.tables.models import job
from jobengine.store.tables.prepared import PreparedList
from jobengine.store.writing.operations import Claim

TRACES = PreparedList(
    lambda uids: select(job.c.uid, job.c.trace).where(job.c.uid.in_(uids), job.c.trace.is_not(None))
)


def read_traces(connection: Connection, claims: Sequence[Claim]) -> None:
    """Notes in each claim, which is settled, the traces of its jobs: one statement for all."""
    uids = [uid_bytes(claimed.uid) for claim in claims for claimed in claim.outcome()]
    traces = {uid_text(uid): trace for uid, trace in TRACES.rows(connection, uids)}
    for claim in claims:
        of_jobs = (traces.get(claimed.uid) for claimed in claim.outcome())
        claim.traces = list(dict.fromkeys(trace for trace in of_jobs if trace is not None))
