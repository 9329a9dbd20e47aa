"""The calls on jobs."""

from typing import Any

from jobengine.api import problems, requests, wire
from jobengine.api.bodies import array_of
from jobengine.api.description import fields
from jobengine.api.description.operation import Answer, Body, Operation, Parameter
from jobengine.domain.errors import (
    AnswerFull,
    Busy,
    Forbidden,
    OutcomeUnknown,
    QueueFull,
    UnknownJob,
    UnknownQueue,
)
from jobengine.domain.job import Job

_TAG = "Jobs"
_CONTENT = {"to": "ada@example.org"}
_DRAFT = {"content": _CONTENT, "valid_for": 600, "priority": 80}
_OTHER_DRAFT = {"content": {"to": "grace@example.org"}, "valid_for": 86_400, "priority": 20}
_CREATED = {
    "content": _CONTENT,
    "created": 1_795_600_000,
    "last_updated": 1_795_600_000,
    "priority": 80,
    "state": "queued",
    "timeout_time": 1_795_600_600,
    "uid": fields.UID,
}
_OTHER = {
    **_CREATED,
    "content": _OTHER_DRAFT["content"],
    "priority": 20,
    "timeout_time": 1_795_686_400,
    "uid": fields.OTHER_UID,
}
_CLAIMED = {**_CREATED, "last_updated": 1_795_600_042, "state": "inprogress"}
_COMPLETE = {**_CLAIMED, "last_updated": 1_795_600_060, "state": "complete"}
_UPDATES = [
    {"uid": fields.UID, "status": "complete"},
    {"uid": fields.OTHER_UID, "status": "failed", "content": {"why": "no such address"}},
]
_OUTCOMES = [_COMPLETE, problems.of(UnknownJob())]
_CURSOR = "UAAAAAAAAAAHAAAAAAAAAAk"
_UNKNOWN_QUEUE = UnknownQueue("there is no queue 'emails'")
_UNDONE = OutcomeUnknown("the database was lost while it committed")


def _of(caller: str, right: str) -> dict[str, Any]:
    """What the calls of services with a right on a queue have in common."""
    lacking = Forbidden(f"'stranger' has no {right} right on the queue 'emails'")
    return {
        "tag": _TAG,
        "parameters": (fields.service(caller), fields.QUEUE),
        "errors": (
            fields.invalid("header", "X-Queue", "missing, expected the name of a queue once"),
            lacking,
            _UNKNOWN_QUEUE,
        ),
    }


def _with(
    common: dict[str, Any], *parameters: Parameter, errors: tuple[Any, ...] = ()
) -> dict[str, Any]:
    return {
        **common,
        "parameters": (*common["parameters"], *parameters),
        "errors": (*common["errors"], *errors),
    }


_WRITER, _READER = _of("shop", "write"), _of("mailer", "read")
_EITHER = _of("mailer", "read or write")
_BAD_PRIORITY = fields.invalid("pointer", "/priority", "expected an integer from 1 to 100")

OPERATIONS = (
    Operation(
        id="createJob",
        method="put",
        path="/api/v1/jobs/create",
        summary="Create a job, or many",
        description=(
            "Needs the right to write. Of an array, all jobs are created or none. `valid_for` "
            "ends with the year 9999 at the latest."
        ),
        body=Body(
            (wire.NewJobBody, array_of(wire.NewJobBody)),
            {"one": _DRAFT, "many": [_DRAFT, _OTHER_DRAFT]},
        ),
        answers=(
            Answer(
                201,
                "The job; for an array, an array of the jobs in its order.",
                (Job, list[Job]),
                {"one": _CREATED, "many": [_CREATED, _OTHER]},
            ),
        ),
        **_with(
            _WRITER,
            errors=(
                _BAD_PRIORITY,
                QueueFull("the queue 'emails' holds 100000 jobs that are not finished"),
                _UNDONE,
            ),
        ),
    ),
    Operation(
        id="claimNextJob",
        method="get",
        path="/api/v1/jobs/next",
        summary="Claim the next job",
        description=(
            "Needs the right to read. Puts the job of the highest priority, the oldest among "
            "equals, in progress. With `count` it claims many, of at most 16 MiB of content."
        ),
        answers=(
            Answer(
                200,
                "The job; with `count`, an array of jobs.",
                (Job, list[Job]),
                {"one": _CLAIMED, "many": [_CLAIMED]},
            ),
            Answer(
                204,
                "None is queued. With `Retry-After` where too many calls wait already.",
                headers=(fields.RETRY_AFTER,),
            ),
        ),
        **_with(
            _READER,
            fields.COUNT,
            fields.WAIT,
            fields.PREFER,
            errors=(
                fields.invalid("parameter", "count", "expected an integer from 1 to 1000"),
                _UNDONE,
            ),
        ),
    ),
    Operation(
        id="listJobs",
        method="get",
        path="/api/v1/jobs",
        head=True,
        summary="List the jobs of a queue",
        description=(
            "Needs the right to read. In queue order, as a stream: no snapshot. With `limit` a "
            "page, whose positions begin at 0 again."
        ),
        answers=(
            Answer(
                200,
                "The jobs by their position.",
                (dict[str, Job],),
                {"two jobs": {"0": _CREATED, "1": _OTHER}},
                (fields.next_link(f"</api/v1/jobs?limit=100&cursor={_CURSOR}>; rel=next"),),
            ),
            Answer(204, "There are none."),
        ),
        **_with(
            _READER,
            fields.STATUS_FILTER,
            fields.limit("jobs", "without it, all of them"),
            Parameter("cursor", "query", "From the `Link` of the page before.", str, _CURSOR),
            errors=(
                fields.invalid("parameter", "limit", "expected an integer from 1 to 1000"),
                Busy("too many long lists are being read: try again in a moment"),
            ),
        ),
    ),
    Operation(
        id="updateJobs",
        method="post",
        path="/api/v1/jobs",
        summary="Update many jobs, and claim the next",
        description=(
            "Needs the right to read or to write; with `next`, to read. An update that meets a "
            "problem meets it alone; a mistake in the body changes nothing."
        ),
        body=Body((array_of(wire.UidChangesBody),), {"two updates": _UPDATES}),
        answers=(
            Answer(
                200,
                "What each update came to, in their order; with `next`, also the jobs claimed.",
                (list[wire.Outcome], wire.UpdatedAndClaimed),
                {
                    "updated": _OUTCOMES,
                    "an answer that was full": [
                        _COMPLETE,
                        problems.of(AnswerFull("the answer is full: send this update again")),
                    ],
                    "updated and claimed": {"updated": _OUTCOMES, "jobs": [_CLAIMED]},
                },
            ),
        ),
        **_with(
            _EITHER,
            fields.next_jobs(requests.CLAIM_MAX, "How many jobs to claim in the same commit."),
            errors=(
                fields.invalid("pointer", "/0/uid", "missing, expected the uid of a job, a text"),
                _UNDONE,
            ),
        ),
    ),
    Operation(
        id="getJob",
        method="get",
        path="/api/v1/jobs/{uid}",
        head=True,
        summary="Look at a job",
        description="Needs the right to read or to write.",
        answers=(Answer(200, "The job.", (Job,), {"created": _CREATED}),),
        **_with(_EITHER, fields.JOB_UID, errors=(UnknownJob(),)),
    ),
    Operation(
        id="updateJob",
        method="post",
        path="/api/v1/jobs/{uid}",
        summary="Update a job, and claim the next",
        description=(
            "Needs the right to read or to write; with `next`, to read. What is left out stays "
            "as it is; any update is a heartbeat."
        ),
        body=Body(
            (wire.ChangesBody,),
            {
                "complete": {"status": "complete"},
                "heartbeat": {},
                "everything": {
                    "status": "queued",
                    "content": _CONTENT,
                    "timeout_time": 253_402_300_799,
                    "priority": 90,
                },
            },
        ),
        answers=(
            Answer(
                200,
                "The job; with `next`, the one that was claimed.",
                (Job,),
                {"updated": _COMPLETE, "claimed": {**_CLAIMED, "uid": fields.OTHER_UID}},
            ),
            Answer(204, "With `next`: the job was updated, and none is queued."),
        ),
        **_with(
            _EITHER,
            fields.JOB_UID,
            fields.next_jobs(1, "1 to claim the next job in the same commit."),
            errors=(UnknownJob(), _BAD_PRIORITY, _UNDONE),
        ),
    ),
    Operation(
        id="deleteJob",
        method="delete",
        path="/api/v1/jobs/{uid}",
        summary="Delete a job",
        description="Needs the right to write. Whatever the job's state.",
        answers=(Answer(204, "The job is gone."),),
        **_with(_WRITER, fields.JOB_UID, errors=(UnknownJob(), _UNDONE)),
    ),
)
