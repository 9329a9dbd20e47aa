"""The page of one queue: its plots, who may do what, its times."""

import re
from typing import Any

import pytest

from jobengine.web.words import age
from tests.dashboard.pages import text_of
from tests.harness.browser import Browser, Page
from tests.harness.client import Api
from tests.harness.house import House


def queue_page(browser: Browser, api: Api, span: str = "hour") -> Page:
    page = browser.get(f"/queue?name={api.queue}&span={span}")
    assert page.status == 200, page.text
    return page


def legends(page: Page) -> dict[str, str]:
    """What the head of each plot says, by the title of the plot."""
    found = re.findall(
        r"data-plot.*?<figcaption><strong>(.*?)</strong>(.*?)</figcap", page.text, re.DOTALL
    )
    return {title: text_of(legend) for title, legend in found}


@pytest.mark.parametrize(("span", "step"), [("hour", 60), ("day", 600), ("week", 3600)])
def test_its_plots_tell_what_was_done_and_how_long_it_took(
    house: House, api: Api, oz: Browser, span: str, step: int
) -> None:
    for _ in range(3):
        api.made()
    house.clock.advance(20)
    uids = [api.next().json()["uid"] for _ in range(2)]
    house.clock.advance(100)
    ends = [
        {"uid": uid, "status": end} for uid, end in zip(uids, ("complete", "failed"), strict=True)
    ]
    assert api.send("POST", "/api/v1/jobs", ends).status == 200
    house.clock.advance(2)  # statistics are written with a commit, once a second
    house.queue().made()
    shown = legends(queue_page(oz, api, span))
    assert shown["Jobs"].startswith("created 3 claimed 2 completed 1 failed 1 expired 0 ")
    assert shown["Jobs"].endswith(f"at most in {age(step)}")
    assert shown["Depth"].startswith("queued 1 in progress 0 failed 1 ")
    times = r"p50 (\S+ \S+(?: \d+ \S+)?) p95 (\S+ \S+(?: \d+ \S+)?) "
    assert re.match(times, shown["Waiting, until claimed"]), shown
    assert re.match(times, shown["Running, until complete or failed"]), shown


def test_it_leads_to_other_spans_and_refuses_others(house: House, api: Api, oz: Browser) -> None:
    page = queue_page(oz, api, "day")
    tabs = re.findall(r'<a href="([^"]*)" (aria-current="page")?>Last (\w+)</a>', page.text)
    assert [name for _, _, name in tabs] == ["hour", "day", "week", "month"]
    assert [name for _, current, name in tabs if current] == ["day"]
    refused = oz.get(f"/queue?name={api.queue}&span=year")
    assert (refused.status, "expected one of hour, day, week, month" in refused.text) == (400, True)


def test_it_says_who_reads_and_writes_and_for_how_long(
    house: House, api: Api, oz: Browser, ann: Browser
) -> None:
    shown = text_of(queue_page(oz, api).text)
    assert "Read by anyone Written by anyone" in shown
    assert "In progress without an update fails after 6 d 22 h Finished kept for 6 d 22 h" in shown
    assert "Purge" not in shown
    assert "Purge" in text_of(queue_page(ann, api).text)


def test_its_counts_lead_to_the_jobs(api: Api, oz: Browser) -> None:
    api.made("complete")
    api.made()
    page: Any = queue_page(oz, api).text
    counts = re.findall(r'<dd><a href="/jobs\?queue=[^"]*state=(\w+)">(\d+)</a>', page)
    assert dict(counts) == {"queued": "1", "inprogress": "0", "complete": "1", "failed": "0"}
