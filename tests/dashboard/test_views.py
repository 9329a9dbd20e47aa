"""Filters, orders, pages and the search in contents."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.dashboard.pages import (
    NO_UID,
    STATES,
    jobs_page,
    on_one,
    text_of,
    uids,
)
from tests.harness.browser import Browser
from tests.harness.client import Api
from tests.harness.filling import fill
from tests.harness.house import House


@pytest.fixture(scope="module")
def aged(house: House) -> tuple[Api, list[dict[str, Any]]]:
    """A queue, and its jobs of every state, many priorities and ages."""
    api = house.queue()
    jobs = []
    for number in range(24):
        state = STATES[number % 4]
        jobs.append(api.made(state, priority=1 + 33 * (number % 3) + number, valid_for=10**6))
        house.clock.advance(60)
    return api, jobs


FILTERS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "": lambda _: True,
    "state=queued": lambda job: job["state"] == "queued",
    "state=inprogress": lambda job: job["state"] == "inprogress",
    "state=complete": lambda job: job["state"] == "complete",
    "state=failed": lambda job: job["state"] == "failed",
    "priority=50": lambda job: job["priority"] == 50,
    "priority=40-60": lambda job: 40 <= job["priority"] <= 60,
    "priority=60-40": lambda job: 40 <= job["priority"] <= 60,
    "older=10m": lambda job: job["age"] >= 600,
    "newer=600s": lambda job: job["age"] <= 600,
    "older=5m&newer=1h": lambda job: 300 <= job["age"] <= 3600,
    "older=1w": lambda _: False,
    "newer=999999w": lambda _: True,
    "state=failed&priority=20-90&older=5m": lambda job: (
        job["state"] == "failed" and 20 <= job["priority"] <= 90 and job["age"] >= 300
    ),
}


@pytest.mark.parametrize("order", ["queue", "newest", "oldest"])
@pytest.mark.parametrize("filter_", FILTERS)
def test_a_view_shows_the_jobs_that_its_filters_let_through_in_its_order(
    house: House, aged: tuple[Api, list[dict[str, Any]]], filter_: str, order: str
) -> None:
    api, jobs = aged
    now = house.clock.now()
    wanted = [job for job in jobs if FILTERS[filter_]({**job, "age": now - job["created"]})]
    if order == "queue":
        wanted.sort(key=lambda job: -job["priority"])
    elif order == "newest":
        wanted.reverse()
    page = house.browser("vic").get(f"/jobs?queue={api.queue}&order={order}&{filter_}")
    assert page.uids == [job["uid"] for job in wanted]


@pytest.mark.parametrize("order", ["queue", "newest", "oldest"])
def test_pages_give_every_job_once_while_others_come_and_go(
    api: Api, oz: Browser, order: str
) -> None:
    drafts = [{"content": {}, "valid_for": 600, "priority": 1 + n * 7 % 5} for n in range(160)]
    jobs = api.send("PUT", "/api/v1/jobs/create", drafts).json()
    if order == "queue":
        jobs.sort(key=lambda job: -job["priority"])
    elif order == "newest":
        jobs.reverse()
    page = jobs_page(oz, api.queue, order=order)
    seen, stayed = page.uids, [job["uid"] for job in jobs]
    while page.next:
        for gone in (seen[-1], stayed[-1]):  # one that was shown, and one that was not
            api.delete(gone)
            stayed.remove(gone)
        for priority in (1, 3, 5):
            api.create(priority=priority)
        page = oz.get(page.next)
        seen += page.uids
    assert len(seen) == len(set(seen))
    assert [uid for uid in seen if uid in set(stayed)] == stayed


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/jobs?queue=queue0&state=done", "state"),
        ("/jobs?queue=queue0&priority=0", "priority"),
        ("/jobs?queue=queue0&priority=101", "priority"),
        ("/jobs?queue=queue0&priority=0-50", "priority"),
        ("/jobs?queue=queue0&priority=high", "priority"),
        ("/jobs?queue=queue0&older=5", "older"),
        ("/jobs?queue=queue0&older=-5m", "older"),
        ("/jobs?queue=queue0&newer=yesterday", "newer"),
        ("/jobs?queue=queue0&newer=1234567s", "newer"),
        ("/jobs?queue=queue0&order=random", "order"),
        ("/jobs?queue=queue0&after=x", "after"),
        ("/jobs?queue=queue0&after=50-9223372036854775807", "after"),
        (f"/jobs?queue=queue0&contains={'x' * 1001}", "contains"),
        ("/queue?name=queue0&span=year", "span"),
        ("/audit?before=0", "before"),
        ("/audit?before=9223372036854775808", "before"),
        ("/jobs?queue=%ff", "UTF-8"),
    ],
)
@on_one
def test_a_bad_filter_is_a_page_that_names_it(ann: Browser, path: str, field: str) -> None:
    page = ann.get(path)
    assert (page.status, page.title) == (400, "That is not as expected")
    assert field in text_of(page.text.partition("<main")[2])


@pytest.mark.parametrize("order", ["queue", "newest", "oldest"])
@pytest.mark.parametrize("after", ["999-9223372036854775806", "1-9223372036854775806", "0-0"])
def test_a_place_that_no_job_was_at_is_a_place(
    api: Api, oz: Browser, order: str, after: str
) -> None:
    api.made()
    jobs_page(oz, api.queue, order=order, after=after)


@pytest.mark.parametrize(
    "path",
    [
        "/queue?name=nope",
        "/jobs?queue=nope",
        "/queue",
        "/jobs",
        f"/jobs/{NO_UID}",
        "/jobs/nope",
        "/static/nope.css",
        "/queue/nope",
    ],
)
@on_one
def test_what_is_not_there_is_a_page_that_says_so(ann: Browser, path: str) -> None:
    page = ann.get(path)
    assert page.status == 404
    assert page.headers["content-type"].startswith("text/html")


def test_a_search_finds_whatever_the_case_and_the_escapes(api: Api, oz: Browser) -> None:
    body = b'{"content":{"who":"M\\u00dcLLER & \\"S\\u00f6hne\\""},"valid_for":600,"priority":50}'
    escaped = api.send("PUT", "/api/v1/jobs/create", body).json()
    plain = api.made(content={"who": "anna müller"})
    api.made(content={"who": "mueller"})
    wanted = [escaped["uid"], plain["uid"]]
    for text in ("müller", "MÜLLER", "Üll"):
        assert uids(oz, api.queue, contains=text) == wanted
    assert uids(oz, api.queue, contains="& ") == wanted[:1]
    for text in ('"who":"m\\u00dc', '"who": "mü', "\\u00dc"):  # as it was sent, and laid out
        assert uids(oz, api.queue, contains=text) == wanted[:1]


def test_a_search_goes_through_many_jobs_in_steps(api: Api, oz: Browser) -> None:
    fill(api, 2_100, size=1)
    last = api.made(content={"needle": 1}, priority=1)
    page = jobs_page(oz, api.queue, contains="NEEDLE")
    assert (page.uids, page.status) == ([], 200)
    assert 'data-looked="2000"' in page.text
    page = oz.get(page.next)
    assert page.uids == [last["uid"]]
    assert 'data-looked="101"' in page.text
    assert page.next == ""
