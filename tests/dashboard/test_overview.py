"""The page of all queues and the head of a queue's page: what is wrong comes first."""

import re
from typing import Any

import msgspec
import pytest

from jobengine.engine.metrics import Flow
from jobengine.engine.queue_report import QueueReport
from jobengine.web.overview import _row
from jobengine.web.troubles import troubles
from tests.dashboard.pages import text_of, uids
from tests.harness.browser import Browser, Page
from tests.harness.client import Api
from tests.harness.house import ODD, House

QUIET = QueueReport(
    name="q",
    read=[],
    write=[],
    job_keep_minutes=60,
    job_timeout_minutes=10,
    max_jobs=None,
    paused=False,
    origin="config",
    jobs={"queued": 0, "inprogress": 0, "complete": 0, "failed": 0},
    oldest_queued_age=None,
)
NOTHING = [Flow(60 * minute) for minute in range(60)]


def report(**fields: Any) -> QueueReport:
    jobs = QUIET.jobs | fields.pop("jobs", {})
    return msgspec.structs.replace(QUIET, jobs=jobs, **fields)


def lately(minutes_ago: int = 0, **counts: int) -> list[Flow]:
    """An hour in which something happened in one minute; 0 is the present one."""
    at = len(NOTHING) - 1 - minutes_ago
    return [*NOTHING[:at], Flow(NOTHING[at].time, **counts), *NOTHING[at + 1 :]]


def queued(age: int, **fields: Any) -> QueueReport:
    return report(jobs={"queued": 1}, oldest_queued_age=age, **fields)


@pytest.mark.parametrize(
    ("there", "flows", "kinds"),
    [
        (QUIET, NOTHING, []),
        (QUIET, [], []),
        (queued(299), NOTHING, []),
        (queued(300), NOTHING, ["stuck"]),
        (queued(300), lately(4, claimed=1), []),
        (queued(300), lately(5, claimed=1), ["stuck"]),
        (queued(300, paused=True), NOTHING, ["paused"]),
        (report(paused=True), NOTHING, ["paused"]),
        (QUIET, lately(failed=1, completed=9), ["failing"]),
        (QUIET, lately(failed=1, completed=10), []),
        (QUIET, lately(4, failed=1), ["failing"]),
        (QUIET, lately(5, failed=1), []),
        (report(max_jobs=3, jobs={"queued": 1, "inprogress": 1, "failed": 9}), NOTHING, []),
        (report(max_jobs=3, jobs={"queued": 1, "inprogress": 2}), NOTHING, ["full"]),
        (report(max_jobs=3, jobs={"queued": 4}), NOTHING, ["full"]),
        (QUIET, lately(4, expired=1), ["expiring"]),
        (QUIET, lately(5, expired=1), []),
        (
            queued(300, max_jobs=1),
            lately(failed=1, expired=1),
            ["stuck", "failing", "full", "expiring"],
        ),
        (
            queued(300, max_jobs=1, paused=True),
            lately(failed=1, expired=1),
            ["failing", "full", "paused", "expiring"],
        ),
    ],
)
def test_what_is_wrong_with_a_queue_comes_the_worst_first(
    there: QueueReport, flows: list[Flow], kinds: list[str]
) -> None:
    assert [trouble.kind for trouble in troubles(there, flows)] == kinds


def test_what_is_wrong_is_told_with_its_numbers() -> None:
    found = troubles(queued(3600, max_jobs=1), lately(2, failed=1, completed=1, expired=1_234))
    assert [trouble.why for trouble in found] == [
        "Its oldest job waits for 1 h, and nobody claims any.",
        "1 of the 2 jobs that ended in the last 5 minutes failed.",
        "It holds 1 of 1 jobs.",
        "1,234 jobs expired in the last 5 minutes, unclaimed.",
    ]


def test_jobs_in_and_out_a_minute_are_those_of_the_last_five() -> None:
    flows = lately(4, created=10, claimed=90, completed=2, failed=3, expired=5)
    assert (_row(QUIET, flows).came, _row(QUIET, flows).went) == (2, 2)
    late = lately(5, created=10, completed=10)
    assert (_row(QUIET, late).came, _row(QUIET, late).went) == (0, 0)


def test_queues_that_something_is_wrong_with_come_first(house: House, ann: Browser) -> None:
    stuck, paused, well = (house.queue() for _ in range(3))
    full = house.server.api("full")
    settings = {"read": ["*"], "write": ["*"], "max_jobs": 1}
    admin = full.as_service("admin")
    assert admin.send("PUT", "/api/v1/queues/full", settings).status == 201
    stuck.made()
    house.clock.advance(300)
    well.made()
    ann.post("/queue/pause", {"name": paused.queue})
    full.made()
    page = ann.get("/")
    order = [page.text.index(f'data-key="{api.queue}"') for api in (stuck, full, paused, well)]
    assert order == sorted(order)
    kinds = [re.findall('<a class="tag (\\w+)"', row(page, api)) for api in (stuck, full, paused)]
    assert kinds == [["stuck"], ["full"], ["paused"]]
    assert "tag" not in row(page, well)
    ann.post("/queue/resume", {"name": paused.queue})
    assert "tag" not in row(ann.get("/"), paused)
    admin.send("DELETE", "/api/v1/queues/full")


def test_what_is_wrong_leads_to_the_jobs_that_it_is_about(house: House, oz: Browser) -> None:
    api = house.queue()
    jobs = [api.made(priority=priority) for priority in (1, 100)]
    house.clock.advance(300)
    api.made("failed")
    (address,) = re.findall('<a class="tag stuck"[^>]* href="([^"]*)"', row(oz.get("/"), api))
    assert oz.get(address.replace("&amp;", "&")).uids == [job["uid"] for job in jobs]
    head = troubles_of(oz, api)
    assert head == ["stuck Its oldest job waits for 5 min, and nobody claims any. See them"]


def test_a_queue_that_is_well_says_so(house: House, oz: Browser) -> None:
    assert troubles_of(oz, house.queue()) == ["Nothing is wrong."]


def test_the_overview_counts_jobs_by_state_and_links_to_them(api: Api, oz: Browser) -> None:
    made = {state: api.made(state) for state in ("queued", "inprogress", "complete", "failed")}
    api.made()
    found = re.findall(
        r'<a href="/jobs\?queue=([^"]*)"\s*(?:class="bad")?>([\d,]+)</a>', row(oz.get("/"), api)
    )
    assert [int(count) for _, count in found] == [2, 1, 1, 1]
    assert uids(oz, api.queue, state="failed") == [made["failed"]["uid"]]


def test_a_name_with_odd_signs_is_quoted(oz: Browser) -> None:
    page = oz.get("/queue?name=odd/name%3F%26%3Cb%3E%22'")
    assert page.status == 200
    assert text_of(re.findall("<h1>(.*?)</h1>", page.text)[0]) == ODD


def row(page: Page, api: Api) -> str:
    """The row of a queue in the overview."""
    _, _, after = page.text.partition(f'<tr data-key="{api.queue}">')
    return after.partition("</tr>")[0]


def troubles_of(browser: Browser, api: Api) -> list[str]:
    page = browser.get(f"/queue?name={api.queue}")
    (found,) = re.findall('<ul class="troubles".*?</ul>', page.text, re.DOTALL)
    return [text_of(item) for item in re.findall("<li.*?</li>", found, re.DOTALL)]
