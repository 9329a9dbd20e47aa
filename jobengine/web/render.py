"""Templates into answers, with the headers that keep a page from harm."""

import hashlib
import re
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

import falcon
from falcon import Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jobengine import __version__
from jobengine.web import words
from jobengine.web.cookies import cookie

# Nothing is loaded from elsewhere and nothing inline is run or styled.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"} | {
    "svg": "image/svg+xml"
}
_FOR_EVER = "public, max-age=31536000, immutable"
_NOTICE = "jobengine_notice"
_NOTICE_MAX = 500


# Where a browser finds the pages: what a proxy takes off each path (SCRIPT_NAME, PEP 3333).
_base: ContextVar[str] = ContextVar("base", default="")


def begin(base: str) -> None:
    """Has the addresses in the answer to the request that now begins start with the base."""
    _base.set(base)


def url(path: str, **query: object) -> str:
    """The address of a page, as the browser has it, with a query of what is not None."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    address = _base.get() + quote(path)
    return f"{address}?{urlencode(given)}" if given else address


def cookie_path() -> str:
    """The paths that get the cookies of the pages, and no other application's."""
    return _base.get() or "/"


@cache
def _static(name: str) -> tuple[bytes, str]:
    """The bytes of a file in static/, and a tag of what they are."""
    data = files("jobengine.web").joinpath("static", name).read_bytes()
    return data, hashlib.sha256(data).hexdigest()[:16]


def static(name: str) -> str:
    """The address of a file in static/, which changes with it."""
    return url(f"/static/{name}", v=_static(name)[1])


def _moment(seconds: int, text: str) -> Markup:
    exact = datetime.fromtimestamp(seconds, UTC)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        exact.strftime("%Y-%m-%dT%H:%M:%SZ"), exact.strftime("%Y-%m-%d %H:%M:%S"), text
    )


def _ago(seconds: int, now: int) -> Markup:
    return _moment(seconds, words.ago(seconds, now))


def _at(seconds: int) -> Markup:
    exact = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<span class="at">{}</span>').format(_moment(seconds, exact))


_templates = Environment(
    loader=PackageLoader("jobengine.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(url=url, static=static, version=__version__, ago=_ago, at=_at)
_templates.filters.update(
    number=words.number,
    age=words.age,
    size=words.size,
    rate=words.rate,
    verb=words.verb,
    services=words.services,
    setting=words.setting,
    text=words.text,
)


def page(req: Request, resp: Response, template: str, **context: Any) -> None:
    """Answers with a page, and with what the call before it had to say."""
    values = {
        "visitor": req.context.get("visitor"),
        "path": req.path,
        "here": req.relative_uri,
        "notice": _taken(req, resp),
    }
    resp.content_type = "text/html; charset=utf-8"
    resp.text = _templates.get_template(template).render(values | context)
    protect(resp)


def protect(resp: Response) -> None:
    """Adds the headers of a page."""
    resp.set_headers(_HEADERS)


def see(resp: Response, target: str, notice: str = "") -> None:
    """Sends the browser to another address, whose page says the notice."""
    resp.status = falcon.HTTP_303
    resp.location = target
    if notice:
        resp.set_cookie(
            _NOTICE,
            quote(notice[:_NOTICE_MAX], safe=""),
            max_age=60,
            path=cookie_path(),
            secure=False,
            http_only=True,
            same_site="Strict",
        )


def _taken(req: Request, resp: Response) -> str:
    value = cookie(req, _NOTICE)
    if not value:
        return ""
    resp.unset_cookie(_NOTICE, path=cookie_path(), same_site="Strict")
    return falcon.uri.decode(value, unquote_plus=False)[:_NOTICE_MAX]


class Static:
    """GET /static/{name}: style sheet, script, icon."""

    open = True  # who is not logged in sees a styled page too
    _name = re.compile(r"[a-z]+\.(css|js|svg)")

    def on_get(self, req: Request, resp: Response, name: str) -> None:
        """200 with the file."""
        named = self._name.fullmatch(name)
        if named is None:
            raise falcon.HTTPNotFound
        try:
            data, tag = _static(name)
        except FileNotFoundError:
            raise falcon.HTTPNotFound from None
        resp.data = data
        resp.content_type = _TYPES[named[1]]
        fresh = req.get_param("v") == tag
        resp.set_header("Cache-Control", _FOR_EVER if fresh else "no-cache")
        resp.set_header("X-Content-Type-Options", "nosniff")

    on_head = on_get
