"""Who may see and do what: the middleware of the pages."""

from typing import Any
from urllib.parse import urlsplit

import falcon
from falcon import Request, Response

from jobengine.domain.audit import Actor, by_dashboard
from jobengine.domain.errors import Forbidden
from jobengine.domain.user import Role
from jobengine.engine.sign_in import SignIn
from jobengine.engine.users import Users
from jobengine.web import render
from jobengine.web.cookies import cookie
from jobengine.web.render import url

SESSION_COOKIE = "jobengine_session"

# The other methods do nothing here: each is answered by which of these a page takes.
_CALLS = frozenset({"GET", "HEAD", "POST"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Falcon middleware: puts the visitor, or None, into `req.context.visitor`.

    A resource says with `needs` the role that it takes to see it (viewer unless it says
    otherwise), with `needs_to_act` that to send it something (operator), and with `open`
    that nobody need be logged in.
    """

    def __init__(self, sign_in: SignIn, users: Users) -> None:
        self._sign_in = sign_in
        self._users = users

    def process_request(self, req: Request, _resp: Response) -> None:
        """Finds who asks. Raises Forbidden where another site's page sends something."""
        req.context.visitor = None
        if req.method not in _SAFE and _is_forged(req):
            raise Forbidden("This was sent by a page of another site. Nothing was done.")
        token = session_of(req)
        if token and not req.path.startswith("/static/"):
            req.context.visitor = self._sign_in.visitor(token)

    def process_resource(
        self, req: Request, resp: Response, resource: Any, _params: dict[str, Any]
    ) -> None:
        """Lets the call through, or answers it. Raises Forbidden."""
        if getattr(resource, "open", False) or req.method not in _CALLS:
            return
        visitor = req.context.visitor
        if visitor is None:
            self._turn_away(req, resp)
            resp.complete = True
            return
        for needed in _needed(req.method, resource):
            if not visitor.role.at_least(needed):
                raise Forbidden(
                    f"This takes the role {needed.value}; yours is {visitor.role.value}."
                )

    def _turn_away(self, req: Request, resp: Response) -> None:
        if not self._users.exist():
            show_first_steps(req, resp)
        elif req.get_header("X-Requested-With") == "fragment":
            resp.status = falcon.HTTP_401
        else:
            # What was to be sent is lost: its address may be none to look at.
            wanted = req.relative_uri if req.method in _SAFE else None
            render.see(resp, url("/login", next=wanted))


def actor(req: Request) -> Actor:
    """Who does something, for the audit trail and the history of jobs."""
    return by_dashboard(req.context.visitor.name, req.remote_addr)


def session_of(req: Request) -> str:
    """The token of the session that the browser has; nothing where it has none."""
    return cookie(req, SESSION_COOKIE)


def show_first_steps(req: Request, resp: Response) -> None:
    """Answers with how to make the first user."""
    render.page(req, resp, "first_user.html")


def _needed(method: str, resource: Any) -> list[Role]:
    seeing: Role = getattr(resource, "needs", Role.VIEWER)
    acting: Role = getattr(resource, "needs_to_act", Role.OPERATOR)
    return [seeing] if method in _SAFE else [seeing, acting]


def _is_forged(req: Request) -> bool:
    """Whether a browser sends it for a page of another origin.

    As Go's http.CrossOriginProtection: browsers say so themselves in Sec-Fetch-Site, but not
    over plain HTTP; there Origin is compared with Host. What has neither is no browser.
    """
    site = req.get_header("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = req.get_header("Origin")
    if origin is None:
        return False
    return not _is_of(origin, req.get_header("Host", default=""))


def _is_of(origin: str, host: str) -> bool:
    try:
        there = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(there) and there.lower() == host.lower()
