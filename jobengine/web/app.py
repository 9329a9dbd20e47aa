"""The WSGI application of the pages: routes, and errors as pages."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import falcon
import structlog
from falcon import Request, Response

from jobengine.domain import errors
from jobengine.domain.clock import Clock
from jobengine.domain.errors import JobEngineError
from jobengine.engine.audit import Audit
from jobengine.engine.browsing import Browsing
from jobengine.engine.desk import Desk
from jobengine.engine.metrics import Metrics
from jobengine.engine.queue_admin import QueueAdmin
from jobengine.engine.sign_in import SignIn
from jobengine.engine.system import System
from jobengine.engine.users import Users
from jobengine.web import render
from jobengine.web.guard import Guard
from jobengine.web.job import Find, JobPage, Reveal
from jobengine.web.jobs import Act, JobsPage
from jobengine.web.login import Login, Logout
from jobengine.web.overview import Overview
from jobengine.web.queue import PurgePage, QueuePage, Switch
from jobengine.web.system import AuditPage, SystemPage

App = falcon.App[Request, Response]

# The first parts of the paths that are pages; all others are the API's.
_PAGES = frozenset({"", "queue", "jobs", "find", "system", "audit", "login", "logout", "static"})

_log = structlog.get_logger(component="web")

_STATUS: tuple[tuple[type[JobEngineError], int, str], ...] = (
    (errors.InvalidInput, 400, "That is not as expected"),
    (errors.Forbidden, 403, "Not for you"),
    (errors.NotFound, 404, "Not there"),
    (errors.Conflict, 409, "Something stands in the way"),
    (errors.Misdirected, 421, "Not this server"),
    (errors.TooMany, 429, "Too often"),
    (errors.Unavailable, 503, "Not now"),
)


class Services(NamedTuple):
    """The use cases that the pages call."""

    browsing: Browsing
    desk: Desk
    queues: QueueAdmin
    metrics: Metrics
    system: System
    audit: Audit
    clock: Clock
    users: Users
    sign_in: SignIn


class _Page(Response):
    """A page shows what is there now: nothing is stored."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        self.set_headers({"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})


def create_app(services: Services, middleware: Sequence[Any], max_body_bytes: int) -> App:
    """The pages. `middleware` comes before their guard."""
    browsing, desk, queues, metrics, system, audit, clock, users, sign_in = services
    app: App = falcon.App(middleware=[*middleware, Guard(sign_in, users)], response_type=_Page)
    app.req_options.strip_url_path_trailing_slash = False
    app.req_options.keep_blank_qs_values = True
    app.req_options.auto_parse_qs_csv = False
    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(falcon.HTTPError, _http_error)
    app.add_error_handler(JobEngineError, _domain_error)
    app.add_route("/", Overview(queues, metrics, clock))
    app.add_route("/queue", QueuePage(queues, metrics, clock))
    app.add_route("/queue/pause", Switch(queues, paused=True))
    app.add_route("/queue/resume", Switch(queues, paused=False))
    app.add_route("/queue/purge", PurgePage(queues))
    app.add_route("/jobs", JobsPage(browsing, queues, clock))
    app.add_route("/jobs/act", Act(desk, queues))
    app.add_route("/jobs/{uid}", JobPage(browsing, desk, clock, max_body_bytes))
    app.add_route("/jobs/{uid}/reveal", Reveal(browsing, desk, clock))
    app.add_route("/find", Find(browsing, clock))
    app.add_route("/system", SystemPage(system, users, clock))
    app.add_route("/audit", AuditPage(audit, clock))
    app.add_route("/login", Login(sign_in, users))
    app.add_route("/logout", Logout(sign_in))
    app.add_route("/static/{name}", render.Static())
    return app


class Site:
    """One WSGI application of two: the pages, and the API, which gets all other paths.

    `base` is what a proxy takes off the beginning of each path.
    """

    def __init__(self, api: App, pages: App, base: str) -> None:
        self._api = api
        self._pages = pages
        self._base = base

    def __call__(self, env: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Calls the one that the path is of; the API's by one look."""
        if self._base:
            env["SCRIPT_NAME"] = self._base
        path: str = env["PATH_INFO"]
        if path.startswith(("/api/", "*")) or path[1:].partition("/")[0] not in _PAGES:
            return self._api(env, start_response)
        render.begin(env.get("SCRIPT_NAME", ""))
        return self._pages(env, start_response)


def _domain_error(
    req: Request, resp: Response, error: JobEngineError, _params: dict[str, Any]
) -> None:
    status, title = next((s, t) for kind, s, t in _STATUS if isinstance(error, kind))
    _answer(req, resp, status, title, str(error) or _words(error))


def _words(error: JobEngineError) -> str:
    if isinstance(error, errors.UnknownJob):
        return "There is no such job, or its time is over."
    return ""


def _http_error(
    req: Request, resp: Response, error: falcon.HTTPError, _params: dict[str, Any]
) -> None:
    if error.headers is not None:
        resp.set_headers(error.headers)  # Allow, of a 405
    title = falcon.code_to_http_status(error.status_code).partition(" ")[2]
    _answer(req, resp, error.status_code, title, error.description or "")


def _unexpected(req: Request, resp: Response, _error: Exception, _params: dict[str, Any]) -> None:
    _log.exception("unexpected error", method=req.method, path=req.path)
    _answer(req, resp, 500, "Something went wrong", "The log of the server says what.")


def _answer(req: Request, resp: Response, status: int, title: str, detail: str) -> None:
    resp.status = status
    resp.data = None
    render.page(req, resp, "error.html", title=title, detail=detail, status=status)
