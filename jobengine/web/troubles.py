"""What is wrong with a queue, told from what it holds and what happened of late."""

from collections.abc import Sequence

import msgspec

from jobengine.engine.metrics import Flow
from jobengine.engine.queue_report import QueueReport
from jobengine.web import words
from jobengine.web.render import url

# The minutes that rates and troubles are told by, with the present one.
RECENT = 5
# A queue whose oldest job has waited for so many seconds while nobody claimed any is stuck.
_STUCK_SECONDS = 300
# One of whose jobs, of those that ended of late, this share failed is failing.
_FAILING = 0.1


class Trouble(msgspec.Struct, frozen=True):
    """What is wrong, in a word and in a sentence; the lowest rank is the worst.

    `jobs` is the address of those that it is about; nothing where it is about no job in particular.
    """

    rank: int
    kind: str
    why: str
    jobs: str = ""


def troubles(report: QueueReport, flows: Sequence[Flow]) -> list[Trouble]:
    """What is wrong with a queue, the worst first, by the last of its minutes."""
    found = [*_unclaimed(report, flows[-RECENT:]), *_unwell(report, flows[-RECENT:])]
    return sorted(found, key=lambda trouble: trouble.rank)


def _unclaimed(report: QueueReport, flows: Sequence[Flow]) -> list[Trouble]:
    """That nobody takes its jobs."""
    found = []
    claimed = sum(flow.claimed for flow in flows)
    expired = sum(flow.expired for flow in flows)
    waits = report.oldest_queued_age or 0
    if report.paused:
        found.append(Trouble(2, "paused", "It hands out no jobs until it is resumed."))
    elif waits >= _STUCK_SECONDS and not claimed:
        why = f"Its oldest job waits for {words.age(waits)}, and nobody claims any."
        oldest = url("/jobs", queue=report.name, state="queued", order="oldest")
        found.append(Trouble(0, "stuck", why, oldest))
    if expired:
        why = f"{expired:,} jobs expired in the last {RECENT} minutes, unclaimed."
        found.append(Trouble(3, "expiring", why))
    return found


def _unwell(report: QueueReport, flows: Sequence[Flow]) -> list[Trouble]:
    """That its jobs fail, or that it takes no more."""
    found = []
    failed = sum(flow.failed for flow in flows)
    ended = failed + sum(flow.completed for flow in flows)
    unfinished = report.jobs["queued"] + report.jobs["inprogress"]
    if failed and failed >= ended * _FAILING:
        why = f"{failed:,} of the {ended:,} jobs that ended in the last {RECENT} minutes failed."
        newest = url("/jobs", queue=report.name, state="failed", order="newest")
        found.append(Trouble(1, "failing", why, newest))
    if report.max_jobs is not None and unfinished >= report.max_jobs:
        why = f"It holds {unfinished:,} of {report.max_jobs:,} jobs."
        found.append(Trouble(1, "full", why))
    return found
