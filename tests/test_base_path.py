"""A server under a path of a proxy, one that is also the path of a page: every address holds."""

import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import urljoin

import pytest

from jobengine.domain.user import Role
from tests.harness.browser import PASSWORD, Browser, Page, add_user
from tests.harness.client import Answer, Api, HttpTransport
from tests.harness.prefix import PrefixProxy
from tests.harness.server import Server

BASE = "/jobs"
CONFIG = (
    f"version: 1\nadmins: [both]\nbase_path: {BASE}\nqueues: {{q: {{read: ['*'], write: ['*']}}}}\n"
)
_LINK = re.compile(r'\b(?:href|src|data-next)="([^"]*)"')
_SENT_TO = re.compile(r'\b(?:action|formaction)="(/[^"]*)"')


@pytest.fixture(scope="module", params=["waitress", "granian"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with a base path, and an admin."""
    folder = tmp_path_factory.mktemp("base")
    with Server(folder, CONFIG, arguments=("--server", request.param)) as running:
        add_user(running, "ann", Role.ADMIN)
        yield running


@pytest.fixture
def proxy(server: Server) -> Iterator[PrefixProxy]:
    """The proxy before it."""
    with PrefixProxy(BASE, server.port) as running:
        yield running


@pytest.fixture
def api(server: Server) -> Api:
    """A client of the server itself."""
    return server.api("q")


def log_in(browser: Browser, **fields: str) -> Page:
    return browser.post(f"{BASE}/login", {"name": "ann", "password": PASSWORD, **fields})


def test_every_address_of_every_page_leads_through_the_proxy(
    proxy: PrefixProxy, server: Server, api: Api
) -> None:
    for state in ("queued", "failed"):
        api.made(state)
    browser = Browser(proxy.port)
    asked = browser.get(f"{BASE}/system")
    assert asked.location == f"{BASE}/login?next=%2Fjobs%2Fsystem"
    begun = log_in(browser, next=f"{BASE}/system")
    assert begun.location == f"{BASE}/system"
    assert {cookie["path"] for cookie in begun.cookies.values()} == {BASE, f"{BASE}/login"}
    pages, seen, forms = [f"{BASE}/"], set[str](), set[str]()
    while pages:
        address = pages.pop()
        page = browser.get(address)
        assert page.status in (200, 303), (address, page.status)
        links = {
            urljoin(address, unescape(link)).partition("#")[0] for link in _LINK.findall(page.text)
        }
        links |= {page.location} - {""}
        pages += links - seen
        seen |= links
        forms |= {unescape(form) for form in _SENT_TO.findall(page.text)}
    assert [address for address in seen | forms if not address.startswith(f"{BASE}/")] == []
    assert {f"{BASE}/system", f"{BASE}/audit"} <= seen
    assert {f"{BASE}/jobs/act", f"{BASE}/logout", f"{BASE}/find"} <= forms
    assert len([link for link in seen if "/static/" in link]) == 3
    assert len(seen) > 10


def test_what_is_done_on_a_page_leads_back_through_the_proxy(
    proxy: PrefixProxy, server: Server, api: Api
) -> None:
    job = api.made()
    browser = Browser(proxy.port)
    assert log_in(browser).location == f"{BASE}/"
    fields = {"queue": "q", "job": f"{job['uid']}:queued", "action": "failed"}
    acted = browser.post(f"{BASE}/jobs/act", {**fields, "own": "1", "confirmed": "1"})
    assert acted.location == f"{BASE}/jobs/{job['uid']}"
    assert acted.cookies["jobengine_notice"]["path"] == BASE
    assert browser.post(f"{BASE}/queue/pause", {"name": "q"}).location == f"{BASE}/queue?name=q"
    assert browser.post(f"{BASE}/queue/resume", {"name": "q"}).location == f"{BASE}/queue?name=q"
    assert browser.get(f"{BASE}/find?uid={job['uid']}").location == f"{BASE}/jobs/{job['uid']}"
    out = browser.post(f"{BASE}/logout")
    assert out.location == f"{BASE}/login"
    assert out.cookies["jobengine_session"]["path"] == BASE
    assert browser.get(f"{BASE}/jobs").location.startswith(f"{BASE}/login?next=")


def through(proxy: PrefixProxy, path: str) -> Answer:
    transport = HttpTransport(proxy.port)
    answer = transport.send("GET", path, {"X-Name": "both", "X-Queue": "q"}, None)
    transport.close()
    return answer


@pytest.mark.parametrize("path", ["/api/v1/jobs?limit=1", "/api/v1/audit?limit=1"])
def test_the_next_page_of_a_list_is_behind_the_proxy(
    proxy: PrefixProxy, api: Api, path: str
) -> None:
    for _ in range(2):
        api.made()
        for act in ("pause", "resume"):
            assert api.send("POST", f"/api/v1/queues/q/{act}").status == 200
    following = through(proxy, BASE + path).headers["link"].partition(">")[0].lstrip("<")
    assert following.startswith(BASE + path.partition("?")[0])
    assert through(proxy, following).status == 200


def test_the_description_says_where_the_calls_are(proxy: PrefixProxy) -> None:
    document: Any = json.loads(through(proxy, f"{BASE}/api/v1/openapi.json").body)
    assert document["servers"] == [{"url": BASE}]
    page = through(proxy, f"{BASE}/docs").body.decode()
    links = [urljoin(f"{BASE}/docs", link) for link in re.findall('href="([^"#]+)"', page)]
    assert sorted(links) == [f"{BASE}/api/v1/openapi.json", f"{BASE}/docs/style.css"]
    for link in links:
        assert through(proxy, link).status == 200


def test_health_checks_go_to_the_server_itself(api: Api) -> None:
    for path in ("/livez", "/readyz"):
        assert api.send("GET", path).status == 200


def test_a_client_does_not_say_where_the_server_is(api: Api) -> None:
    headers = {"X-Forwarded-Prefix": "/evil", "Script-Name": "/evil", "X-Script-Name": "/evil"}
    answer = api.send("GET", "/api/v1/openapi.json", headers=headers)
    assert answer.json()["servers"] == [{"url": BASE}]
