"""The WSGI application: routes, errors and the headers of every answer."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import falcon
from falcon import Request, Response

from jobengine.api import problems
from jobengine.api.audit import AuditTrail
from jobengine.api.authentication import Authenticate
from jobengine.api.description.resources import (
    Description,
    DescriptionPage,
    DescriptionStyle,
)
from jobengine.api.health import Alive, Readiness, Ready
from jobengine.api.jobs import AllJobs, CreateJob, NextJob, OneJob
from jobengine.api.metrics import MetricsText
from jobengine.api.parameters import KnownParameters
from jobengine.api.queues import AllQueues, OneQueue, Pause, Purge
from jobengine.api.throttle import Throttle
from jobengine.api.timing import Timing
from jobengine.domain.errors import JobEngineError
from jobengine.engine.access import Access
from jobengine.engine.audit import Audit
from jobengine.engine.jobs import Jobs
from jobengine.engine.metrics import Metrics
from jobengine.engine.queue_admin import QueueAdmin
from jobengine.engine.rates import Rates

App = falcon.App[Request, Response]


class _Answer(Response):
    """Every answer may differ from the last one, GET next changes state: nothing is stored."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        self.set_headers({"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})


class Services(NamedTuple):
    """The use cases that the resources call."""

    jobs: Jobs
    access: Access
    rates: Rates
    audit: Audit
    queues: QueueAdmin
    metrics: Metrics
    log_lines_lost: Callable[[], int]


def create_app(
    services: Services, readiness: Readiness, max_body_bytes: int, timing: Timing, before: list[Any]
) -> App:
    """The application. `max_body_bytes` is the largest body it accepts.

    `before` is middleware that comes first, the access log and `timing` among it.
    """
    jobs, access, rates, audit, queues, metrics, log_lines_lost = services
    app: App = falcon.App(
        middleware=[*before, Authenticate(access), Throttle(rates), KnownParameters()],
        response_type=_Answer,
    )
    app.req_options.strip_url_path_trailing_slash = False
    app.req_options.keep_blank_qs_values = True
    app.req_options.auto_parse_qs_csv = False
    app.add_error_handler(Exception, problems.handle_unexpected)
    app.add_error_handler(falcon.HTTPError, problems.handle_http_error)
    app.add_error_handler(JobEngineError, problems.handle_domain_error)
    alive = Alive()
    app.add_route("/api/v1/test", alive)
    app.add_route("/livez", alive)
    app.add_route("/readyz", Ready(readiness))
    app.add_route("/api/v1/jobs", AllJobs(jobs, max_body_bytes))
    app.add_route("/api/v1/jobs/create", CreateJob(jobs, max_body_bytes))
    app.add_route("/api/v1/jobs/next", NextJob(jobs))
    app.add_route("/api/v1/jobs/{uid}", OneJob(jobs, max_body_bytes))
    app.add_route("/api/v1/queues", AllQueues(queues))
    app.add_route("/api/v1/queues/{name}", OneQueue(queues, max_body_bytes))
    app.add_route("/api/v1/queues/{name}/pause", Pause(queues, paused=True))
    app.add_route("/api/v1/queues/{name}/resume", Pause(queues, paused=False))
    app.add_route("/api/v1/queues/{name}/purge", Purge(queues))
    app.add_route("/api/v1/audit", AuditTrail(audit, access))
    app.add_route("/metrics", MetricsText(metrics, timing, access, log_lines_lost))
    app.add_route("/api/v1/openapi.json", Description(access))
    app.add_route("/docs", DescriptionPage(access))
    app.add_route("/docs/style.css", DescriptionStyle())
    app.add_sink(_whole_server, re.compile(r"\*$"))
    return app


def _whole_server(req: Request, resp: Response, **_: Any) -> None:
    """Answers `OPTIONS *`, a ping (RFC 9110, section 9.3.7); no other method takes the target."""
    if req.method != "OPTIONS":
        raise falcon.HTTPMethodNotAllowed(["OPTIONS"])
    resp.status = falcon.HTTP_204
    resp.set_header("Allow", "GET, HEAD, POST, PUT, DELETE, OPTIONS")
