"""The calls on queues."""

from typing import Any

from jobengine.api import queue_wire
from jobengine.api.description import fields
from jobengine.api.description.operation import Answer, Body, Operation, Parameter
from jobengine.domain.errors import Conflict, Forbidden, OutcomeUnknown, UnknownQueue
from jobengine.engine.queue_report import QueueReport

_TAG = "Queues"
_REPORT = {
    "name": "faxes",
    "read": ["faxer"],
    "write": ["shop"],
    "job_keep_minutes": 1440,
    "job_timeout_minutes": 10,
    "max_jobs": 100_000,
    "paused": False,
    "origin": "http",
    "jobs": {"queued": 3, "inprogress": 1, "complete": 20, "failed": 0},
    "oldest_queued_age": 12,
}
_PAUSED = {**_REPORT, "paused": True}
_BAD_HEADER = fields.invalid("header", "X-Name", "missing, expected the name of a service once")
_BAD_PARAMETER = fields.invalid("parameter", "queue", "unknown parameter, expected none")
_UNKNOWN_QUEUE = UnknownQueue("there is no queue 'faxes'")
_OF_CONFIG = Conflict("the queue 'faxes' belongs to the config: edit it in /jobengine/config.yml")
_HOLDS_JOBS = Conflict(
    "the queue 'faxes' holds 3 job(s), which protect_nonempty in the config keeps: purge it first"
)
_NO_ADMIN = Forbidden("'shop' is none of the `admins` of the config")
_NO_RIGHT = Forbidden("'stranger' has no read or write right on the queue 'faxes'")
_UNDONE = OutcomeUnknown("the database was lost while it committed")
_ADMINS = "For admins."


def _of(
    service: str, *parameters: Parameter, errors: tuple[Any, ...], named: bool = True
) -> dict[str, Any]:
    """What the calls have in common; those on one queue are `named`."""
    name = (fields.QUEUE_NAME,) if named else ()
    unknown = (_UNKNOWN_QUEUE,) if named else ()
    return {
        "tag": _TAG,
        "parameters": (fields.service(service), *name, *parameters),
        "errors": (_BAD_HEADER, _BAD_PARAMETER, *errors, *unknown),
    }


OPERATIONS = (
    Operation(
        id="listQueues",
        method="get",
        path="/api/v1/queues",
        head=True,
        summary="List the queues",
        description="All for an admin, for others those that they may read or write; by name.",
        answers=(Answer(200, "The queues.", (list[QueueReport],), {"one queue": [_REPORT]}),),
        **_of("shop", errors=(), named=False),
    ),
    Operation(
        id="getQueue",
        method="get",
        path="/api/v1/queues/{name}",
        head=True,
        summary="Look at a queue",
        description="For admins, and for who may read or write it.",
        answers=(Answer(200, "The queue.", (QueueReport,), {"made over HTTP": _REPORT}),),
        **_of("shop", errors=(_NO_RIGHT,)),
    ),
    Operation(
        id="putQueue",
        method="put",
        path="/api/v1/queues/{name}",
        summary="Make a queue, or change it",
        description=f"{_ADMINS} The body replaces what was there.",
        body=Body(
            (queue_wire.QueueBody,),
            {
                "a queue": {
                    "read": ["faxer"],
                    "write": ["shop"],
                    "job_keep_minutes": 1440,
                    "max_jobs": 100_000,
                },
                "for everybody": {"read": ["*"], "write": ["*"]},
            },
        ),
        answers=(
            Answer(200, "The queue, changed.", (QueueReport,), {"changed": _REPORT}),
            Answer(201, "The queue, made.", (QueueReport,), {"made": _REPORT}),
        ),
        **_of(
            "ops",
            errors=(
                fields.invalid("pointer", "/max_jobs", "expected an integer from 1, or null"),
                _NO_ADMIN,
                _OF_CONFIG,
                _UNDONE,
            ),
        ),
    ),
    Operation(
        id="deleteQueue",
        method="delete",
        path="/api/v1/queues/{name}",
        summary="Delete a queue with its jobs",
        description=_ADMINS,
        answers=(Answer(204, "The queue is gone."),),
        **_of("ops", errors=(_NO_ADMIN, _OF_CONFIG, _HOLDS_JOBS, _UNDONE)),
    ),
    Operation(
        id="pauseQueue",
        method="post",
        path="/api/v1/queues/{name}/pause",
        summary="Pause a queue",
        description=f"{_ADMINS} It takes jobs, and hands out none.",
        answers=(Answer(200, "The queue.", (QueueReport,), {"paused": _PAUSED}),),
        **_of("ops", errors=(_NO_ADMIN, _UNDONE)),
    ),
    Operation(
        id="resumeQueue",
        method="post",
        path="/api/v1/queues/{name}/resume",
        summary="Resume a queue",
        description=f"{_ADMINS} It hands out jobs again.",
        answers=(Answer(200, "The queue.", (QueueReport,), {"resumed": _REPORT}),),
        **_of("ops", errors=(_NO_ADMIN, _UNDONE)),
    ),
    Operation(
        id="purgeQueue",
        method="post",
        path="/api/v1/queues/{name}/purge",
        summary="Delete the jobs of a queue",
        description=f"{_ADMINS} All jobs, or those in the state of `X-Status-Filter`.",
        answers=(
            Answer(200, "How many jobs there were.", (queue_wire.Purged,), {"12": {"deleted": 12}}),
        ),
        **_of("ops", fields.STATUS_FILTER, errors=(_NO_ADMIN, _UNDONE)),
    ),
)
