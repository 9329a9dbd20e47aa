"""The calls on the server: the audit trail, whether it is alive, and what it can do."""

from typing import Annotated, Any

from msgspec import Meta

from jobengine.api.description import fields
from jobengine.api.description.operation import Answer, Operation, Parameter
from jobengine.api.health import Health
from jobengine.api.requests import AUDIT_LIMIT
from jobengine.domain.audit import Entry
from jobengine.domain.errors import Forbidden, NotRunning, Stopping, StoreFailed
from jobengine.domain.job import TIME_MAX

_TAG = "Server"
_ENTRY = {
    "id": 17,
    "time": 1_795_600_000,
    "actor": "ops",
    "address": "192.0.2.7",
    "action": "queue.paused",
    "subject": "faxes",
    "detail": {},
    "digest": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
}
_BAD_HEADER = fields.invalid("header", "X-Name", "missing, expected the name of a service once")
_HEALTHY: dict[str, Any] = {"types": (Health,), "examples": {"ok": {"status": "ok"}}}

OPERATIONS = (
    Operation(
        id="listAuditEntries",
        method="get",
        path="/api/v1/audit",
        head=True,
        tag="Audit trail",
        summary="Read the audit trail",
        description="For admins. The newest entries first.",
        parameters=(
            fields.service("ops"),
            Parameter(
                "since",
                "query",
                "Only entries from this time on: seconds since the Unix epoch.",
                Annotated[int, Meta(ge=0, le=TIME_MAX)],
                1_795_000_000,
            ),
            Parameter(
                "before",
                "query",
                "Only entries with an `id` below this one.",
                Annotated[int, Meta(ge=1, le=2**63 - 1)],
                117,
            ),
            fields.limit("entries", f"without it {AUDIT_LIMIT}"),
        ),
        answers=(
            Answer(
                200,
                "The entries.",
                (list[Entry],),
                {"one entry": [_ENTRY]},
                (fields.next_link("</api/v1/audit?since=0&before=17&limit=100>; rel=next"),),
            ),
        ),
        errors=(
            _BAD_HEADER,
            fields.invalid("parameter", "limit", "expected an integer from 1 to 1000"),
            Forbidden("'shop' is none of the `admins` of the config"),
        ),
    ),
    Operation(
        id="getMetrics",
        method="get",
        path="/metrics",
        head=True,
        tag=_TAG,
        summary="Metrics for Prometheus",
        description="For the services under `metrics` in the config, and for admins.",
        parameters=(fields.service("prometheus", required=False),),
        answers=(
            Answer(
                200,
                "All metrics, in Prometheus' text format 0.0.4.",
                (str,),
                {"its beginning": '# TYPE jobengine_jobs gauge\njobengine_jobs{queue="faxes"'},
                media_type="text/plain",
            ),
        ),
        errors=(
            Forbidden("'shop' is not under `metrics` in the config, nor an admin"),
            fields.invalid("parameter", "x", "unknown parameter, expected none"),
        ),
    ),
    Operation(
        id="getDescription",
        method="get",
        path="/api/v1/openapi.json",
        head=True,
        tag=_TAG,
        summary="This description",
        parameters=(fields.service("shop", required=False),),
        answers=(
            Answer(
                200,
                "An OpenAPI document.",
                (dict[str, Any],),
                {"its beginning": {"openapi": "3.1.0", "info": {"title": "JobEngine"}}},
            ),
        ),
    ),
    Operation(
        id="test",
        method="get",
        path="/api/v1/test",
        tag=_TAG,
        summary="Whether the server answers",
        answers=(Answer(200, "It does.", **_HEALTHY),),
        open=True,
        head=True,
    ),
    Operation(
        id="getLiveness",
        method="get",
        path="/livez",
        tag=_TAG,
        summary="Whether the process is alive",
        answers=(Answer(200, "It is.", **_HEALTHY),),
        open=True,
        head=True,
    ),
    Operation(
        id="getReadiness",
        method="get",
        path="/readyz",
        tag=_TAG,
        summary="Whether jobs can be served",
        description="Writes to the database where it failed before.",
        answers=(Answer(200, "They can.", **_HEALTHY),),
        errors=(
            Stopping("the server is shutting down"),
            StoreFailed("the database could not commit when it was last asked to"),
            NotRunning("the thread 'duties' died; it is started again"),
        ),
        open=True,
        head=True,
    ),
)
