"""Logging in and out."""

import re

import falcon
from falcon import Request, Response

from jobengine.domain.errors import RateExceeded, Unauthenticated
from jobengine.engine.sign_in import SESSION_SECONDS, SignedIn, SignIn
from jobengine.engine.users import Users
from jobengine.web import forms, render
from jobengine.web.cookies import cookie
from jobengine.web.guard import SESSION_COOKIE, session_of, show_first_steps
from jobengine.web.render import url

# What a browser is known by that somebody has logged in with; sent to /login alone.
_MARK_COOKIE = "jobengine_known"
_MARK_SECONDS = 180 * 24 * 60 * 60
_FORM_BYTES_MAX = 16 * 1024
# A path on this server. Browsers take // and /\ for the beginning of a host, and drop tabs
# and ends of lines before they look.
_LOCAL = re.compile(r"/(?![/\\])[\x21-\x7e]*")


class Login:
    """GET and POST /login."""

    open = True

    def __init__(self, sign_in: SignIn, users: Users) -> None:
        self._sign_in = sign_in
        self._users = users

    def on_get(self, req: Request, resp: Response) -> None:
        """200 with the form; 303 to the page that was wanted for who is logged in."""
        query = forms.query(req)
        target = _local(query.text("next"))
        if req.context.visitor is not None:
            render.see(resp, target)
        elif not self._users.exist():
            show_first_steps(req, resp)
        else:
            again = bool(query.text("again"))
            refresh = "" if again else _refresh(req, target)
            _show(req, resp, target, refresh=refresh)

    on_head = on_get

    def on_post(self, req: Request, resp: Response) -> None:
        """303 to the page that was wanted, or the form with 401 or 429."""
        form = forms.body(req, _FORM_BYTES_MAX)
        name, target = form.text("name").strip(), _local(form.text("next"))
        mark = cookie(req, _MARK_COOKIE)
        try:
            begun = self._sign_in.sign_in(name, form.text("password"), req.remote_addr, mark)
        except Unauthenticated:
            resp.status = falcon.HTTP_401
            _show(req, resp, target, name, "There is no user of that name with that password.")
        except RateExceeded as error:
            resp.status = falcon.HTTP_429
            resp.set_header("Retry-After", str(error.retry_after))
            problem = f"Too many logins failed. Try again in {error.retry_after} seconds."
            _show(req, resp, target, name, problem)
        else:
            _remember(req, resp, begun)
            render.see(resp, target)


class Logout:
    """POST /logout."""

    open = True

    def __init__(self, sign_in: SignIn) -> None:
        self._sign_in = sign_in

    def on_post(self, req: Request, resp: Response) -> None:
        """303 to the form, once the session has ended on the server."""
        token = session_of(req)
        if token:
            self._sign_in.sign_out(token)
        resp.unset_cookie(SESSION_COOKIE, path=render.cookie_path(), same_site="Strict")
        render.see(resp, url("/login"))


def _show(
    req: Request,
    resp: Response,
    target: str,
    name: str = "",
    problem: str = "",
    *,
    refresh: str = "",
) -> None:
    context = {"target": target, "name": name, "problem": problem, "refresh": refresh}
    render.page(req, resp, "login.html", **context)


def _refresh(req: Request, target: str) -> str:
    """Where the form is to be asked for once more; nothing where the cookie would be here.

    Somebody who is logged in and follows a link on another site comes without the cookie,
    which is SameSite=Strict. The page that they get asks again, and then it is sent. Over
    plain HTTP browsers do not say where they come from.
    """
    may_come_from_elsewhere = req.get_header("Sec-Fetch-Site") in (None, "cross-site")
    if session_of(req) or not may_come_from_elsewhere:
        return ""
    return url("/login", next=target, again=1)


def _remember(req: Request, resp: Response, begun: SignedIn) -> None:
    cookies = [
        (SESSION_COOKIE, begun.token, SESSION_SECONDS, render.cookie_path()),
        (_MARK_COOKIE, begun.mark, _MARK_SECONDS, url("/login")),
    ]
    for name, value, seconds, path in cookies:
        resp.set_cookie(
            name,
            value,
            max_age=seconds,
            path=path,
            secure=req.forwarded_scheme == "https",
            http_only=True,
            same_site="Strict",
        )


def _local(target: str) -> str:
    """The page that was wanted, where it is one of this server; else the first."""
    return target if _LOCAL.fullmatch(target) else url("/")
