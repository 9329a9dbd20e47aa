"""A browser, as far as the pages need one: cookies, forms, and where it is sent next."""

import http.client
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import unescape
from http.cookies import Morsel, SimpleCookie
from typing import Any
from urllib.parse import unquote, urlencode

from jobengine.cli.administer import administer
from jobengine.config.environment import read_environment
from jobengine.domain.audit import Actor
from jobengine.domain.clock import Clock
from jobengine.domain.user import Role
from jobengine.engine.administration import AddUser
from jobengine.engine.passwords import hash_of
from tests.harness.server import Server

Fields = Mapping[str, str | Sequence[str]]
PASSWORD = "correct horse battery staple"  # noqa: S105  of everybody in these tests
_BOUNDARY = "between-the-parts"


@dataclass(frozen=True)
class Page:
    status: int
    headers: dict[str, str]  # names in lower case
    text: str
    cookies: "dict[str, Morsel[str]]"  # those that it set

    @property
    def location(self) -> str:
        return self.headers.get("location", "")

    @property
    def notice(self) -> str:
        """What a page is to say that this answer leads to."""
        return unquote(self.cookies["jobengine_notice"].value)

    @property
    def uids(self) -> list[str]:
        """The jobs in its table, from the first row to the last."""
        return re.findall(r'<tr data-key="([0-9a-f-]{36})"', self.text)

    @property
    def next(self) -> str:
        """The address of the page after it; nothing where it is the last."""
        found = re.search(r'rel="next" href="([^"]*)"', self.text)
        return "" if found is None else unescape(found[1])

    @property
    def title(self) -> str:
        (title,) = re.findall(r"<title>(.*?) · JobEngine</title>", self.text)
        return unescape(title)


@dataclass
class Browser:
    """Keeps the cookies that it gets, whatever their paths. Says where it comes from or not."""

    port: int
    site: str | None = None  # Sec-Fetch-Site
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **headers: str) -> Page:
        return self.send("GET", path, headers)

    def post(self, path: str, fields: Fields | None = None, **headers: str) -> Page:
        """Sends a form; a field may have several values."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.send("POST", path, kind | headers, urlencode(fields or {}, doseq=True))

    def post_parts(self, path: str, fields: dict[str, str]) -> Page:
        """Sends a form in parts, as one with a long text."""
        kind = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        parts = "".join(
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        return self.send("POST", path, kind, f"{parts}--{_BOUNDARY}--\r\n")

    def log_in(self, name: str, password: str = PASSWORD, **fields: str) -> Page:
        """Sends the form of /login."""
        return self.post("/login", {"name": name, "password": password, **fields})

    def send(
        self, method: str, path: str, headers: dict[str, str], body: str | bytes | None = None
    ) -> Page:
        own = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if self.site is not None:
            own["Sec-Fetch-Site"] = self.site
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            sent = body.encode() if isinstance(body, str) else body
            connection.request(method, path, sent, {k: v for k, v in own.items() if v} | named)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        found: Any = SimpleCookie()
        for name, value in response.getheaders():
            if name.lower() == "set-cookie":
                found.load(value)
        for name, morsel in found.items():
            if morsel.value:
                self.cookies[name] = morsel.value
            else:
                self.cookies.pop(name, None)
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Page(response.status, headers, text, dict(found))


@cache
def password_hash() -> str:
    """The hash of PASSWORD."""
    return hash_of(PASSWORD)


def add_user(
    server: Server,
    name: str,
    role: Role = Role.ADMIN,
    clock: Clock | None = None,
    *,
    reveal: bool = False,
) -> None:
    """Adds a user whose password is PASSWORD, as the command does."""
    request = AddUser(Actor("me"), name, role, reveal=reveal, hash=password_hash())
    administer(read_environment(server.env), request, clock)
