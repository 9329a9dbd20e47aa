"""Logging in to the dashboard: sessions, cookies, forged requests, and who guesses."""

from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from jobengine.domain.user import Role
from jobengine.engine.sign_in import SESSION_SECONDS
from tests.conftest import Databases
from tests.harness.browser import PASSWORD, Browser, Page, add_user
from tests.harness.clock import FileClock
from tests.harness.server import Server

CONFIG = "version: 1\nqueues:\n  q: {read: [both], write: [both]}\n"
SESSION = "jobengine_session"
MARK = "jobengine_known"
# Failures that a name, and an address, may have in five minutes.
PER_NAME, PER_ADDRESS = 5, 20


@pytest.fixture(scope="module", params=["sqlcipher", "postgresql"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> Iterator[Server]:
    """A server with an admin, ann."""
    env: Any = databases.env(request.param)
    with Server(tmp_path_factory.mktemp("login"), CONFIG, **env) as server:
        add_user(server, "ann")
        yield server


@pytest.fixture
def browser(house: Server) -> Browser:
    """A browser that nobody has logged in with."""
    return Browser(house.port)


@pytest.fixture(scope="module")
def ann(house: Server) -> Browser:
    """A browser that ann is logged in with."""
    browser = Browser(house.port)
    assert browser.log_in("ann").status == 303
    return browser


def alike(page: Page, name: str) -> tuple[int, str]:
    return page.status, page.text.replace(name, "NAME")


def test_the_right_password_leads_to_the_page_that_was_wanted(browser: Browser) -> None:
    wanted = browser.get("/jobs?queue=q")
    assert (wanted.status, wanted.location) == (303, "/login?next=%2Fjobs%3Fqueue%3Dq")
    assert browser.get(wanted.location).title == "Log in"
    assert browser.log_in("ann", next="/jobs?queue=q").location == "/jobs?queue=q"
    assert browser.get("/jobs?queue=q").status == 200
    assert browser.get("/login?next=/system").location == "/system"


def test_a_wrong_password_and_an_unknown_name_are_told_alike(browser: Browser) -> None:
    wrong, unknown = browser.log_in("ann", "wrong"), browser.log_in("nemo", "wrong")
    assert alike(wrong, "ann") == alike(unknown, "nemo")
    assert wrong.status == 401
    assert browser.cookies == {}


def test_what_a_form_says_comes_back_as_text(browser: Browser) -> None:
    page = browser.log_in('"><script>x</script>', "wrong")
    assert page.status == 401
    assert "<script>x" not in page.text


@pytest.mark.parametrize("proto", [None, "https"])
def test_the_cookie_is_for_this_site_alone_and_out_of_reach_of_scripts(
    browser: Browser, proto: str | None
) -> None:
    headers = {} if proto is None else {"X_Forwarded_Proto": proto}
    page = browser.post("/login", {"name": "ann", "password": PASSWORD}, **headers)
    for name, path, seconds in ((SESSION, "/", SESSION_SECONDS), (MARK, "/login", 180 * 86400)):
        cookie = page.cookies[name]
        assert cookie["httponly"] is True
        assert cookie["samesite"] == "Strict"
        assert cookie["path"] == path
        assert cookie["max-age"] == str(seconds)
        assert bool(cookie["secure"]) is (proto == "https")
        assert cookie["domain"] == ""


def test_a_fragment_without_a_session_is_401_and_no_page(browser: Browser) -> None:
    page = browser.get("/jobs?queue=q", X_Requested_With="fragment")
    assert (page.status, page.text) == (401, "")


@pytest.mark.parametrize("token", ["", "nonsense", "é", "x" * 3000])
def test_a_cookie_that_is_no_session_is_none(browser: Browser, token: str) -> None:
    browser.cookies[SESSION] = token.encode().decode("latin-1")
    assert browser.get("/").location == "/login?next=%2F"


def test_a_form_that_comes_without_a_session_is_not_what_one_comes_back_to(
    browser: Browser,
) -> None:
    assert browser.post("/jobs/act").location == "/login"


def test_what_styles_the_form_needs_no_session(browser: Browser) -> None:
    assert browser.get("/static/style.css").status == 200


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "evil",
        "/é",
        "",
    ],
)
def test_a_login_leads_to_no_other_site(ann: Browser, target: str) -> None:
    known = Browser(ann.port, cookies={MARK: ann.cookies[MARK]})
    assert known.log_in("ann", next=target).location == "/"


FORGED: list[dict[str, str]] = [
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
    {"Sec_Fetch_Site": ""},
    {"Sec_Fetch_Site": "cross-site", "Origin": "http://HOST"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://evil.example"},
    {"Origin": "http://HOST.evil.example"},
    {"Origin": "http://HOST@evil.example"},
    {"Origin": "http://[evil"},
]
OWN: list[dict[str, str]] = [
    {"Sec_Fetch_Site": "same-origin"},
    {"Sec_Fetch_Site": "none"},
    {"Sec_Fetch_Site": "same-origin", "Origin": "http://evil.example"},
    {"Origin": "http://HOST"},
    {},
]


def sent_with(browser: Browser, headers: dict[str, str]) -> Page:
    """Has the queue paused."""
    host = f"127.0.0.1:{browser.port}"
    named = {name: value.replace("HOST", host) for name, value in headers.items()}
    return browser.post("/queue/pause", {"name": "q"}, **named)


def paused(house: Server) -> bool:
    return "Resume" in logged_in(house).get("/queue?name=q").text


def logged_in(server: Server) -> Browser:
    browser = Browser(server.port)
    assert browser.log_in("ann").status == 303
    return browser


@pytest.mark.parametrize("headers", FORGED)
def test_what_a_page_of_another_site_sends_is_403(
    house: Server, ann: Browser, headers: dict[str, str]
) -> None:
    ann.post("/queue/resume", {"name": "q"})
    assert sent_with(ann, headers).status == 403
    assert not paused(house)


@pytest.mark.parametrize("headers", OWN)
def test_what_a_page_of_its_own_sends_is_done(
    house: Server, ann: Browser, headers: dict[str, str]
) -> None:
    ann.post("/queue/resume", {"name": "q"})
    assert sent_with(ann, headers).status == 303
    assert paused(house)


def test_a_forged_login_is_403(browser: Browser) -> None:
    browser.site = "cross-site"
    assert browser.log_in("ann").status == 403
    assert browser.cookies == {}


def test_a_logout_ends_the_session_on_the_server(house: Server) -> None:
    browser = logged_in(house)
    token = browser.cookies[SESSION]
    assert browser.post("/logout").location == "/login"
    assert SESSION not in browser.cookies
    assert Browser(house.port, cookies={SESSION: token}).get("/").status == 303
    assert browser.post("/logout").location == "/login"  # a second one has nothing to end


def test_a_link_on_another_site_finds_who_is_logged_in(ann: Browser) -> None:
    """The browser withholds the cookie from what another site leads to, and no more after."""
    without = Browser(ann.port, site="cross-site")
    page = without.get(without.get("/system").location)
    again = refresh(page)
    assert again.startswith("/login?")
    seen = Browser(ann.port, site="same-origin", cookies=ann.cookies).get(again)
    assert (seen.status, seen.location) == (303, "/system")
    stranger = Browser(ann.port, site="same-origin").get(again)
    assert (stranger.status, refresh(stranger)) == (200, "")


def refresh(page: Page) -> str:
    """Where the page has the browser go at once; nothing where it stays."""
    _, found, rest = page.text.partition('http-equiv="refresh" content="0; url=')
    return unescape(rest.partition('"')[0]) if found else ""


@pytest.mark.parametrize("site", ["none", "same-origin", "same-site"])
def test_the_form_stays_where_the_cookie_would_have_come(ann: Browser, site: str) -> None:
    assert refresh(Browser(ann.port, site=site).get("/login?next=/system")) == ""


def test_a_session_that_is_over_leads_to_the_form(tmp_path: Path, clock: FileClock) -> None:
    with Server(tmp_path, CONFIG, clock_file=clock.path) as server:
        add_user(server, "ann", clock=clock)
        browser = logged_in(server)
        clock.advance(SESSION_SECONDS - 1)
        assert browser.get("/").status == 200
        clock.advance(1)
        assert browser.get("/").status == 303


def test_until_there_is_a_user_every_page_says_how_to_make_one(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    with Server(tmp_path, CONFIG, **database) as server:
        browser = Browser(server.port)
        for path in ("/", "/login", "/jobs?queue=q", "/audit"):
            page = browser.get(path)
            assert page.status == 200
            assert "jobengine users add NAME --role admin" in page.text
        assert browser.log_in("ann").status == 401
        assert server.api().create().status == 201
        add_user(server, "ann")
        assert browser.get("/").status == 303


@pytest.fixture
def besieged(tmp_path: Path) -> Iterator[Server]:
    """A server with two users, for those who guess."""
    with Server(tmp_path, CONFIG) as server:
        add_user(server, "ann")
        add_user(server, "bob", Role.VIEWER)
        yield server


def test_who_guesses_must_wait_and_the_user_need_not(besieged: Server) -> None:
    own, other = logged_in(besieged), Browser(besieged.port)
    guesses = [other.log_in("ann", f"guess {number}") for number in range(PER_NAME + 1)]
    assert [page.status for page in guesses] == [401] * PER_NAME + [429]
    right = other.log_in("ann")
    assert right.status == 429, "the right password must wait as well"
    assert 1 <= int(right.headers["retry-after"]) <= 300
    assert right.headers["retry-after"] in right.text
    assert own.get("/").status == 200
    own.post("/logout")
    assert own.log_in("ann").status == 303, "a browser that she has logged in with is known"
    assert other.log_in("bob").status == 303


def test_who_guesses_at_many_names_must_wait(besieged: Server) -> None:
    browser = Browser(besieged.port)
    guesses = [browser.log_in(f"name{number}", "guess") for number in range(PER_ADDRESS)]
    assert {page.status for page in guesses} == {401}
    assert browser.log_in("bob").status == 429


def test_who_has_a_known_browser_may_not_guess_for_ever_either(besieged: Server) -> None:
    browser = logged_in(besieged)
    guesses = [browser.log_in("ann", f"guess {number}") for number in range(PER_NAME + 1)]
    assert [page.status for page in guesses] == [401] * PER_NAME + [429]


@pytest.mark.parametrize("mark", ["bob's", "0" * 64, "é"])
def test_a_mark_that_is_not_the_users_does_not_make_a_browser_known(
    besieged: Server, mark: str
) -> None:
    bob, other = Browser(besieged.port), Browser(besieged.port)
    assert bob.log_in("bob").status == 303
    for number in range(PER_NAME):
        other.log_in("ann", f"guess {number}")
    value = bob.cookies[MARK] if mark == "bob's" else mark.encode().decode("latin-1")
    assert Browser(besieged.port, cookies={MARK: value}).log_in("ann").status == 429


def test_the_log_tells_of_failures_and_of_nothing_secret(besieged: Server) -> None:
    browser = logged_in(besieged)
    browser.get("/")
    browser.log_in("ann", "wrong but private")
    besieged.wait_for("a login failed", user="ann", address="127.0.0.1")
    browser.log_in("a password in the wrong field", "wrong but private")
    besieged.wait_for("a login failed", user="(unknown)")
    secrets = (PASSWORD, "private", "wrong field", "argon2", *browser.cookies.values())
    files = b"".join(path.read_bytes() for path in besieged.folder.iterdir() if path.is_file())
    for secret in secrets:
        assert secret not in besieged.stderr
        assert secret.encode() not in files


def test_a_form_of_another_kind_or_size_is_refused(browser: Browser) -> None:
    assert browser.post("/login", {}, Content_Type="application/json").status == 400
    assert browser.post("/login", {"password": "x" * 20_000}).status == 413
