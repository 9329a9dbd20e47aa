"""A page that rebinds its name to this machine drives no server on it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobengine.config.settings import Authentication, Settings
from jobengine.domain.errors import Misdirected
from jobengine.engine.hosts import Hosts
from tests.harness.client import Api
from tests.harness.server import Server
from tests.test_bad_input import assert_problem
from tests.test_reload import hang_up

CONFIG = "version: 1\n{}queues: {{q: {{read: ['*'], write: ['*']}}}}\n"
EVIL = {"Host": "evil.example:6010"}
LOOPBACK = [
    "localhost",
    "localhost:6010",
    "LocalHost:1",
    "jobs.localhost:6010",
    "127.0.0.1",
    "127.0.0.1:6010",
    "127.255.0.9:80",
    "[::1]",
    "[::1]:6010",
    "",
]
OTHERS = [
    "evil.example",
    "evil.example:6010",
    "localhost.evil.example",
    "evillocalhost",
    "127.0.0.1.evil.example",
    "127.0.0.1@evil.example",
    "0.0.0.0:6010",
    "128.0.0.1",
    "[::2]:6010",
    "[::1",
    "::1",
    ":6010",
    ".",
    "x" * 300 + ".localhost",
]


def passes(hosts: Hosts, host: str) -> bool:
    try:
        hosts.check(host)
    except Misdirected:
        return False
    return True


def hosts_of(settings: Settings, listens_on: str | None) -> Hosts:
    hosts = Hosts(lambda: settings)
    if listens_on is not None:
        hosts.listens_on(listens_on)
    return hosts


@pytest.mark.parametrize(
    ("host", "good"), [*((host, True) for host in LOOPBACK), *((host, False) for host in OTHERS)]
)
def test_on_loopback_without_keys_only_names_of_loopback_pass(host: str, good: bool) -> None:
    assert passes(hosts_of(Settings(), "127.0.0.1"), host) is good


@pytest.mark.parametrize(
    ("authentication", "listens_on", "enforced"),
    [
        (Authentication.NONE, "127.0.0.1", True),
        (Authentication.NONE, "::1", True),
        (Authentication.NONE, "localhost", True),
        (Authentication.NONE, "0.0.0.0", False),  # noqa: S104
        (Authentication.NONE, "192.0.2.1", False),
        (Authentication.NONE, None, False),  # another WSGI server's matter
        (Authentication.KEYS, "127.0.0.1", False),
        (Authentication.KEYS, "0.0.0.0", False),  # noqa: S104
    ],
)
def test_without_a_list_others_are_refused_where_names_are_believed_on_loopback(
    authentication: Authentication, listens_on: str | None, enforced: bool
) -> None:
    hosts = hosts_of(Settings(authentication=authentication), listens_on)
    assert passes(hosts, "localhost")
    assert passes(hosts, "evil.example") is not enforced


@pytest.mark.parametrize("listens_on", ["127.0.0.1", "0.0.0.0", None])  # noqa: S104
@pytest.mark.parametrize("authentication", Authentication)
def test_a_list_holds_everywhere_and_for_loopback_too(
    authentication: Authentication, listens_on: str | None
) -> None:
    listed = frozenset({"jobs.example", "192.0.2.1", "2001:db8::1"})
    hosts = hosts_of(Settings(authentication=authentication, hosts=listed), listens_on)
    for host in ("jobs.example", "Jobs.Example:443", "192.0.2.1:80", "[2001:DB8::1]:80"):
        assert passes(hosts, host)
    assert passes(hosts, "127.0.0.1:6010")
    for host in ("evil.example", "www.jobs.example", "jobs.example.evil.example"):
        assert not passes(hosts, host)


@pytest.fixture(scope="module", params=["waitress", "granian"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder, arguments = tmp_path_factory.mktemp("hosts"), ("--server", request.param)
    with Server(folder, CONFIG.format("admins: [both]\n"), arguments=arguments) as running:
        yield running


CALLS = [
    ("PUT", "/api/v1/jobs/create"),
    ("GET", "/api/v1/jobs/next"),
    ("GET", "/api/v1/jobs"),
    ("GET", "/api/v1/test"),
    ("PUT", "/api/v1/queues/new"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/nowhere"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_call_to_another_host_is_421(server: Server, method: str, path: str) -> None:
    api, body = server.api(), b"x" * 100_000 if method == "PUT" else None
    assert_problem(api.send(method, path, body, EVIL), 421, "misdirected")
    forwarded = {**EVIL, "X-Forwarded-Host": "localhost", "Forwarded": "host=localhost"}
    assert_problem(api.send(method, path, body, forwarded), 421, "misdirected")
    assert api.send(method, path, headers={"X-Forwarded-Host": "evil.example"}).status != 421


@pytest.mark.parametrize("path", ["/", "/login", "/static/style.css"])
def test_so_is_a_page(server: Server, path: str) -> None:
    answer = server.http().send("GET", path, EVIL, None)
    assert answer.status == 421
    assert answer.headers["content-type"].startswith("text/html")


def test_a_call_without_a_host_is_no_browsers(server: Server) -> None:
    request = b"GET /api/v1/test HTTP/1.0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request)
        assert connection.recv(1000).startswith(b"HTTP/1.0 200 ")


def test_a_page_of_another_site_may_not_name_a_service(server: Server) -> None:
    """It must ask first whether it may send X-Name, and no answer allows it."""
    asks = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "x-name,x-queue",
    }
    answer = server.http().send("OPTIONS", "/api/v1/jobs/create", asks, None)
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    plain = server.http().send("POST", "/api/v1/jobs", {"Content-Type": "text/plain"}, b"[]")
    assert_problem(plain, 400, "invalid-input")


def test_the_list_changes_with_the_config(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG.format(""), arguments=("--host", "0.0.0.0")) as server:  # noqa: S104
        api = Api(server.http(), "q")
        named = {"Host": "jobs.example"}
        assert api.send("GET", "/api/v1/test", headers=EVIL).status == 200
        hang_up(server, CONFIG.format("hosts: [jobs.example]\n"))
        server.wait_for("config applied")
        assert_problem(api.send("GET", "/api/v1/test", headers=EVIL), 421, "misdirected")
        assert api.send("GET", "/api/v1/test", headers=named).status == 200
        assert api.send("GET", "/livez").status == 200
