"""What goes over the wire of jobs: the structs of bodies and of answers."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from jobengine.api.bodies import Body
from jobengine.domain.job import (
    PRIORITY_MAX,
    PRIORITY_MIN,
    TIME_MAX,
    Changes,
    Content,
    Job,
    State,
)
from jobengine.domain.uids import uid_bytes
from jobengine.engine.jobs import Draft

Priority = Annotated[
    int,
    Meta(
        ge=PRIORITY_MIN,
        le=PRIORITY_MAX,
        description=f"an integer from {PRIORITY_MIN} to {PRIORITY_MAX}",
    ),
]
ValidFor = Annotated[int, Meta(ge=1, description="an integer of at least 1: seconds")]
Time = Annotated[
    int,
    Meta(
        ge=0,
        le=TIME_MAX,
        description=f"an integer from 0 to {TIME_MAX}: seconds since the Unix epoch",
    ),
]
Status = Annotated[
    Literal["queued", "inprogress", "complete", "failed"],
    Meta(description="one of queued, inprogress, complete, failed"),
]
Uid = Annotated[str, Meta(description="the uid of a job, a text")]
# msgspec describes no union of two structs without tags.
Outcome = Annotated[
    Any,
    Meta(
        description="the job as the update left it, or the problem that it met",
        extra_json_schema={
            "anyOf": [
                {"$ref": "#/components/schemas/Job"},
                {"$ref": "#/components/schemas/Problem"},
            ]
        },
    ),
]


class NewJobBody(Draft, forbid_unknown_fields=True, frozen=True, gc=False):
    """The body of a create: a draft within its bounds."""

    content: Content
    valid_for: ValidFor
    priority: Priority


class ChangesBody(Struct, forbid_unknown_fields=True, frozen=True, gc=False, kw_only=True):
    """The body of an update; what is left out stays as it is."""

    status: Status | UnsetType = UNSET
    content: Content | UnsetType = UNSET
    timeout_time: Time | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET

    def changes(self) -> Changes:
        """The changes that the body asks for."""
        return Changes(
            status=None if self.status is UNSET else State(self.status),
            content=None if self.content is UNSET else bytes(self.content),
            timeout_time=None if self.timeout_time is UNSET else self.timeout_time,
            priority=None if self.priority is UNSET else self.priority,
        )


class UidChangesBody(ChangesBody, forbid_unknown_fields=True, frozen=True, gc=False, kw_only=True):
    """An element of a bulk update: the changes, and the uid of the job."""

    uid: Uid


class UpdatedAndClaimed(Struct, frozen=True):
    """The answer to a bulk update that also claims."""

    updated: Annotated[list[Outcome], Meta(description="what each update came to, in order")]
    jobs: Annotated[Sequence[Job], Meta(description="the jobs that were claimed")]


_new_job = Body(NewJobBody)
_changes = Body(ChangesBody)
_uid_changes = Body(UidChangesBody)


def is_array(body: bytes) -> bool:
    """Whether the body is to be read as an array."""
    return body.lstrip(b" \t\r\n")[:1] == b"["


def new_job(body: bytes) -> Draft:
    """The job that the body asks for. Raises InvalidInput."""
    return _new_job.one(body)


def new_jobs(body: bytes) -> Sequence[Draft]:
    """The jobs that the array asks for. Raises InvalidInput."""
    return _new_job.many(body)


def changes(body: bytes) -> Changes:
    """The changes that the body asks for. Raises InvalidInput."""
    return _changes.one(body).changes()


def uid_changes(body: bytes) -> list[tuple[bytes | None, Changes]]:
    """The changes that the array asks for, by the uids of the jobs.

    A uid that is none comes as None: no job has it. Raises InvalidInput for
    other mistakes.
    """
    return [(uid_bytes(element.uid), element.changes()) for element in _uid_changes.many(body)]
