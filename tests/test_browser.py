"""The dashboard in Chromium, against the real process.

`JOBENGINE_BROWSER_JOBS=1000000 pytest -n 0 tests/test_browser.py -k many` looks through a million.
"""

import json
import os
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.harness.browser import PASSWORD, add_user
from tests.harness.chromium import Windows, chromium
from tests.harness.client import Api
from tests.harness.clock import FileClock
from tests.harness.filling import fill
from tests.harness.house import House, config
from tests.harness.prefix import PrefixProxy
from tests.harness.server import Server

PERIOD = 3_000  # milliseconds from one refresh to the next
MANY = int(os.environ.get("JOBENGINE_BROWSER_JOBS", 20_000))
_SEARCH_MILLISECONDS = 10_000 + MANY // 5  # for all contents


# Not for the session: while it runs, this thread has an event loop that other tests trip over.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def house(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A server with users of every role."""
    folder = tmp_path_factory.mktemp("browser")
    clock = FileClock(folder / "now")
    with Server(folder, config(), clock_file=clock.path) as server:
        made = House(server, clock)
        made.add_users()
        yield made


@pytest.fixture
def windows(browser: Browser, house: House) -> Iterator[Windows]:
    """Opens pages; no test ends well where one complained."""
    opened = Windows(browser, house)
    yield opened
    opened.close()


@pytest.fixture
def api(house: House) -> Api:
    """A client of an empty queue."""
    return house.queue()


def rows(page: Page) -> Locator:
    return page.locator("#rows tr")


def row(page: Page, job: dict[str, Any]) -> Locator:
    return page.locator(f'#rows tr[data-key="{job["uid"]}"]')


def notice(page: Page) -> Locator:
    return page.locator(".notice")


def refreshed(page: Page) -> None:
    """Lets a page refresh itself once."""
    with page.expect_response(lambda answer: answer.request.resource_type == "fetch"):
        page.clock.run_for(PERIOD)


def test_logging_in_and_out(windows: Windows) -> None:
    page = windows.open("/system")
    expect(page).to_have_url(f"{windows.origin}/login?next=%2Fsystem")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("no user of that name")
    expect(page.get_by_label("Name")).to_have_value("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{windows.origin}/system")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{windows.origin}/login")
    page.goto("/")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()


def test_a_job_arrives_in_the_overview_and_in_the_list(windows: Windows, api: Api) -> None:
    overview = windows.open("/", "vic", clock=True)
    listed = windows.open(f"/jobs?queue={api.queue}", "vic", clock=True)
    count = overview.locator(f'tr[data-key="{api.queue}"] td').nth(1)
    expect(count).to_have_text("0")
    expect(rows(listed)).to_have_count(0)
    job = api.made()
    refreshed(overview)
    expect(count).to_have_text("1")
    refreshed(listed)
    expect(rows(listed)).to_have_count(1)
    expect(row(listed, job)).to_have_class("flash")
    api.update(job["uid"], priority=7)
    refreshed(listed)
    expect(row(listed, job).locator("td.num")).to_have_text("7")


def test_jobs_are_filtered(windows: Windows, api: Api) -> None:
    low, high = api.made(priority=10), api.made(priority=90)
    failed = api.made("failed", priority=95)
    page = windows.open(f"/jobs?queue={api.queue}", "vic")
    expect(rows(page)).to_have_count(3)
    page.get_by_label("Priority").fill("50-100")
    page.get_by_label("Order").select_option("newest first")
    page.get_by_role("button", name="Show").click()
    expect(rows(page)).to_have_count(2)
    expect(rows(page).first).to_have_attribute("data-key", failed["uid"])
    page.locator(".tabs").get_by_role("link", name="queued").click()
    expect(rows(page)).to_have_count(1)
    expect(row(page, high)).to_be_visible()
    page.get_by_role("link", name="Clear").click()
    expect(row(page, low)).to_be_visible()


def test_ticked_failed_jobs_are_retried(windows: Windows, api: Api) -> None:
    first, second, third = (api.made("failed") for _ in range(3))
    page = windows.open(f"/jobs?queue={api.queue}&state=failed", "oz")
    for job in (first, third):
        row(page, job).get_by_role("checkbox").check()
    page.get_by_role("button", name="Retry").click()
    expect(notice(page)).to_have_text("2 jobs were put back to queued.")
    expect(rows(page)).to_have_count(1)
    expect(row(page, second)).to_be_visible()
    assert [job["uid"] for job in api.listed("queued")] == [first["uid"], third["uid"]]


def test_all_shown_are_ticked_at_once_and_deleted_when_confirmed(
    windows: Windows, api: Api
) -> None:
    for _ in range(3):
        api.made()
    page = windows.open(f"/jobs?queue={api.queue}", "oz")
    page.get_by_label("Tick all shown").check()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Delete 3 jobs?")).to_be_visible()
    page.get_by_role("link", name="Leave them").click()
    expect(rows(page)).to_have_count(3)
    page.get_by_label("Tick all shown").check()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(notice(page)).to_have_text("3 jobs were deleted.")
    assert api.listed() == []


def test_a_queue_is_paused_and_resumed(windows: Windows, api: Api) -> None:
    api.made()
    page = windows.open(f"/queue?name={api.queue}", "ann")
    page.get_by_role("button", name="Pause").click()
    expect(notice(page)).to_contain_text("is paused")
    assert api.next().status == 204
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    assert api.next().status == 200


def test_a_job_is_edited(windows: Windows, api: Api) -> None:
    job = api.made(content={"name": "old"})
    page = windows.open(f"/jobs/{job['uid']}", "oz")
    page.get_by_label("Content").fill('{"name": "né", "amount": 1.10}')
    page.locator("#edit").get_by_label("Priority").fill("99")
    page.get_by_role("button", name="Save").click()
    expect(notice(page)).to_have_text("The job was changed.")
    expect(page.locator("#content")).to_contain_text('"amount": 1.10')
    assert api.get(job["uid"]).json()["content"] == {"name": "né", "amount": 1.1}
    assert api.get(job["uid"]).json()["priority"] == 99


def test_a_viewer_reveals_a_content(windows: Windows, api: Api) -> None:
    job = api.made(content={"horse": "trojan"})
    page = windows.open(f"/jobs/{job['uid']}", "rev")
    expect(page.get_by_text("trojan")).to_have_count(0)
    page.get_by_role("button", name="Reveal the content").click()
    expect(page.locator("#content")).to_contain_text('"horse": "trojan"')


def test_markup_in_a_job_is_shown_as_text_and_runs_nothing(windows: Windows, api: Api) -> None:
    markup = "</pre></textarea><script>alert(1)</script><img src=x onerror=alert(2)>"
    job = api.as_service("<script>alert(3)</script>").made(content={markup: markup})
    page = windows.open(f"/jobs/{job['uid']}", "oz")
    expect(page.locator("#content")).to_contain_text(markup)
    expect(page.locator(".timeline")).to_contain_text("<script>alert(3)</script>")
    page.goto(f"/jobs?queue={api.queue}&contains=%3Cscript%3E")
    expect(row(page, job).locator("code")).to_contain_text(markup)
    page.goto("/find?uid=%3Cimg src=x onerror=alert(4)%3E")
    expect(page.locator("h1 code")).to_have_text("<img src=x onerror=alert(4)>")
    assert page.locator("img, script:not([src])").count() == 0


# --- Refreshing


def test_a_page_that_is_hidden_is_not_refreshed(windows: Windows, api: Api) -> None:
    page = windows.open(f"/jobs?queue={api.queue}", "vic", clock=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.resource_type))
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    job = api.made()
    page.clock.run_for(3 * PERIOD)
    assert "fetch" not in asked
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    expect(row(page, job)).to_be_visible()


def test_nothing_moves_under_the_pointer(windows: Windows, api: Api) -> None:
    job = api.made()
    page = windows.open(f"/jobs?queue={api.queue}", "vic", clock=True)
    row(page, job).hover()
    api.made(priority=99)
    refreshed(page)
    expect(page.locator("#live")).to_contain_text("changes wait until the pointer")
    expect(rows(page)).to_have_count(1)
    page.mouse.move(1, 1)
    refreshed(page)
    expect(rows(page)).to_have_count(2)


def test_nothing_moves_under_a_pointer_further_down(windows: Windows, api: Api) -> None:
    job = api.made()
    page = windows.open(f"/jobs/{job['uid']}", "oz", clock=True)
    save, past = page.get_by_role("button", name="Save"), page.locator(".timeline")
    save.hover()
    before = save.bounding_box()
    api.next()
    refreshed(page)
    expect(page.locator("#live")).to_contain_text("changes wait until the pointer")
    expect(page.locator(".state.inprogress")).to_be_visible()  # where nothing grows by it
    assert save.bounding_box() == before
    expect(past).not_to_contain_text("Claimed")
    page.mouse.move(1, 1)
    refreshed(page)
    expect(past).to_contain_text("Claimed")


def test_a_content_that_was_clicked_keeps_nothing_from_being_refreshed(
    windows: Windows, api: Api
) -> None:
    job = api.made("inprogress")
    page = windows.open(f"/jobs/{job['uid']}", "oz", clock=True)
    page.locator("#content").click()
    page.mouse.move(1, 1)
    api.update(job["uid"])
    refreshed(page)
    api.update(job["uid"], status="complete")
    refreshed(page)
    expect(page.locator(".timeline li").nth(2)).to_contain_text("Complete")
    expect(page.locator(".timeline li").nth(2)).to_have_class("complete")
    expect(page.locator("#live")).to_have_text("live")


def test_a_finger_that_is_gone_holds_nothing(windows: Windows, api: Api) -> None:
    job = api.made()
    page = windows.open(f"/jobs/{job['uid']}", "oz", clock=True, has_touch=True, is_mobile=True)
    page.locator("#content").tap()
    assert page.evaluate("document.querySelector('#content').matches(':hover')")
    api.next()
    refreshed(page)
    expect(page.locator(".timeline")).to_contain_text("Claimed")


def test_the_overview_fits_a_phone(windows: Windows, api: Api) -> None:
    api.made()
    page = windows.open("/", "vic", viewport={"width": 390, "height": 844})
    table = page.locator(".scroll")
    assert table.evaluate("part => part.scrollWidth <= part.clientWidth")


def test_what_is_typed_holds_what_is_above_it(windows: Windows, api: Api) -> None:
    job = api.made()
    page = windows.open(f"/jobs/{job['uid']}", "oz", clock=True)
    page.get_by_label("Priority").fill("77")
    page.mouse.move(1, 1)
    api.next()
    refreshed(page)
    expect(page.locator("#live")).to_contain_text("changes wait until the pointer and the cursor")
    expect(page.locator(".timeline")).not_to_contain_text("Claimed")
    expect(page.get_by_label("Priority")).to_have_value("77")


def test_a_plot_that_was_refreshed_tells_its_new_numbers(windows: Windows, house: House) -> None:
    api = house.queue()
    page = windows.open(f"/queue?name={api.queue}", "vic", clock=True)
    figure = page.locator("figure").first
    expect(figure).to_contain_text("created 0")
    api.made()
    house.clock.advance(60)
    while "created 1" not in figure.inner_text():
        refreshed(page)
    drawn = json.loads(figure.get_attribute("data-plot") or "")
    assert sum(map(int, drawn["lines"]["created"])) == 1


def test_a_ticked_row_stays_ticked_while_others_come(windows: Windows, api: Api) -> None:
    job = api.made()
    page = windows.open(f"/jobs?queue={api.queue}", "oz", clock=True)
    tick = row(page, job).get_by_role("checkbox")
    tick.check()
    page.mouse.move(1, 1)
    page.evaluate("document.activeElement.blur()")
    api.update(job["uid"], priority=51)
    api.made(priority=99)
    refreshed(page)
    expect(page.locator("#live")).to_contain_text("changes wait")
    expect(rows(page)).to_have_count(1)
    expect(tick).to_be_checked()
    tick.uncheck()
    page.mouse.move(1, 1)
    page.evaluate("document.activeElement.blur()")
    refreshed(page)
    expect(rows(page)).to_have_count(2)


def test_who_is_logged_out_elsewhere_is_sent_to_the_form(windows: Windows, api: Api) -> None:
    page = windows.open("/login")
    page.get_by_label("Name").fill("vic")
    page.get_by_label("Password").fill(PASSWORD)
    page.clock.install()
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Queues")).to_be_visible()
    page.evaluate("fetch('/logout', {method: 'POST'})")
    expect(page.locator("#live")).to_be_visible()
    page.clock.run_for(PERIOD)
    expect(page.get_by_role("button", name="Log in")).to_be_visible()


# --- Keyboard, times


def test_the_keyboard_moves_ticks_searches_and_leads(windows: Windows, api: Api) -> None:
    first, second = api.made(), api.made()
    page = windows.open(f"/jobs?queue={api.queue}", "oz")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("tr.cursor")).to_have_attribute("data-key", second["uid"])
    page.keyboard.press("x")
    expect(row(page, second).get_by_role("checkbox")).to_be_checked()
    page.keyboard.press("k")
    expect(page.locator("tr.cursor")).to_have_attribute("data-key", first["uid"])
    expect(row(page, first).get_by_role("checkbox")).not_to_be_checked()
    page.keyboard.press("/")
    expect(page.get_by_label("Content has")).to_be_focused()
    page.keyboard.type("jx?")  # which are letters there
    expect(page.get_by_label("Content has")).to_have_value("jx?")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_label("Content has").blur()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{windows.origin}/jobs/{first['uid']}")
    page.keyboard.press("/")
    expect(page.get_by_label("Find a job by its uid")).to_be_focused()
    page.get_by_label("Find a job by its uid").blur()
    page.keyboard.press("g")
    page.keyboard.press("s")
    expect(page).to_have_url(f"{windows.origin}/system")


def test_the_script_stays_under_the_path_of_a_proxy(browser: Browser, tmp_path: Path) -> None:
    made = config() + "base_path: /jobs\n"
    with Server(tmp_path, made) as server, PrefixProxy("/jobs", server.port) as proxy:
        add_user(server, "ann")
        page, asked = browser.new_page(base_url=f"http://127.0.0.1:{proxy.port}"), list[str]()
        page.on("request", lambda request: asked.append(urlsplit(request.url).path))
        page.clock.install()
        page.goto("/jobs/system")
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        expect(page).to_have_url(re.compile("/jobs/system$"))
        page.keyboard.press("g")
        page.keyboard.press("q")
        expect(page).to_have_url(re.compile("/jobs/$"))
        with page.expect_response(lambda answer: answer.url.endswith("/jobs/")) as refreshed:
            page.clock.run_for(PERIOD)
        assert refreshed.value.status == 200
        page.keyboard.press("g")
        page.keyboard.press("s")
        expect(page).to_have_url(re.compile("/jobs/system$"))
        page.close()
    assert [path for path in asked if not path.startswith("/jobs/")] == []


def test_times_are_shown_in_the_readers_zone(windows: Windows, api: Api) -> None:
    job = api.made()
    page = windows.open(f"/jobs/{job['uid']}", "vic", timezone_id="Asia/Tokyo", locale="en-GB")
    there = datetime.fromtimestamp(job["created"], timezone(timedelta(hours=9)))
    shown = there.strftime("%d %b %Y, %H:%M:%S GMT+9")
    expect(page.locator(".timeline time").first).to_have_text(shown)


# --- For all readers


PAGES = [
    "/login",
    "/",
    "/queue?name={queue}",
    "/jobs?queue={queue}",
    "/jobs?queue={queue}&contains=a",
    "/jobs/{uid}",
    "/find?uid=zz",
    "/system",
    "/audit",
    "/jobs?queue=nowhere",
]


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious(windows: Windows, api: Api, path: str) -> None:
    job = api.made("failed", content={"a": 1})
    name = "" if path == "/login" else "ann"
    page = windows.open(path.format(queue=api.queue, uid=job["uid"]), name)
    assert serious(page, {}) == []
    page.emulate_media(color_scheme="dark")
    assert serious(page, {"runOnly": ["color-contrast"]}) == []


def test_axe_finds_nothing_serious_in_a_question_nor_in_the_help(
    windows: Windows, api: Api
) -> None:
    job = api.made()
    page = windows.open(f"/jobs/{job['uid']}", "oz")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    assert serious(page, {}) == []
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Delete 1 job?")).to_be_visible()
    assert serious(page, {}) == []


def serious(page: Page, options: dict[str, Any]) -> list[str]:
    results = Axe().run(page, options={"resultTypes": ["violations"], **options})
    return [
        f"{each['id']}: {node['html']}"
        for each in results.response["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def test_without_a_script_everything_can_be_read(windows: Windows, api: Api) -> None:
    drafts = [{"content": {"n": n}, "valid_for": 600, "priority": 50} for n in range(70)]
    jobs = api.send("PUT", "/api/v1/jobs/create", drafts).json()
    page = windows.open(f"/jobs?queue={api.queue}", java_script_enabled=False)
    page.get_by_label("Name").fill("oz")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(rows(page)).to_have_count(50)
    page.get_by_role("link", name="Next page").click()
    expect(rows(page)).to_have_count(20)
    row(page, jobs[-1]).get_by_role("link").click()
    expect(page.locator("#content")).to_contain_text('"n": 69')
    made = datetime.fromtimestamp(jobs[-1]["created"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    expect(page.locator(".timeline time").first).to_have_text(made)
    page.goto(f"/jobs?queue={api.queue}&contains=%3A 69")
    expect(row(page, jobs[-1])).to_be_visible()


# --- Other sites


@pytest.fixture
def elsewhere() -> Iterator[ThreadingHTTPServer]:
    """A server of pages that send a form to the address in their query as they are opened."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            action = self.path.partition("?")[2]
            page = (
                f'<form method="post" action="{action}"></form>'
                "<script>document.forms[0].submit()</script>"
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name there
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another site", "another port"])
def test_a_form_that_another_site_sends_is_refused(
    windows: Windows, api: Api, elsewhere: ThreadingHTTPServer, host: str
) -> None:
    page = windows.open("/", "ann")
    there = f"http://{host}:{elsewhere.server_port}/"
    page.goto(f"{there}?{windows.origin}/logout")
    expect(page.locator("main")).to_contain_text("sent by a page of another site")
    windows.problems[:] = [each for each in windows.problems if there not in each]
    page.goto("/")
    expect(page.get_by_role("heading", name="Queues")).to_be_visible()  # ann is logged in still


# --- Many


def test_many_jobs_are_paged_filtered_and_searched(windows: Windows, api: Api) -> None:
    last = api.made(content={"needle": "in the haystack"}, priority=100)
    fill(api, MANY - 1, size=1)
    page = windows.open(f"/jobs?queue={api.queue}", "oz")
    expect(page.locator(".tabs")).to_contain_text(f"All {MANY:,}")
    expect(rows(page).first).to_have_attribute("data-key", last["uid"])
    page.get_by_role("link", name="Next page").click()
    expect(rows(page)).to_have_count(50)
    expect(row(page, last)).to_have_count(0)
    page.get_by_label("Order").select_option("newest first")
    page.get_by_role("button", name="Show").click()
    expect(rows(page).first.locator("code")).to_contain_text(f"filled {MANY - 2}")
    page.get_by_label("Order").select_option("oldest first")
    page.get_by_role("search", name="Filters").get_by_label("Priority").fill("100")
    page.get_by_role("button", name="Show").click()
    expect(rows(page)).to_have_count(1)
    page.get_by_role("link", name="Clear").click()
    page.get_by_label("Content has").fill('FILLED 5999"')
    page.get_by_role("button", name="Show").click()
    expect(page.locator("[data-count]")).to_have_text(f"{MANY:,}", timeout=_SEARCH_MILLISECONDS)
    expect(rows(page)).to_have_count(1)
