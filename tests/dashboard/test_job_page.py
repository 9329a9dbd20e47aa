"""The page of one job: its content, its edits, its past."""

import json
import re
from html import unescape
from itertools import takewhile
from typing import Any

import pytest

from jobengine.store.tables.history import STEPS_MAX
from tests.dashboard.pages import (
    NO_UID,
    edit,
    on_one,
    text_of,
    tick,
    trail,
)
from tests.harness.browser import Browser
from tests.harness.client import Api
from tests.harness.house import House


def test_an_edited_content_keeps_its_numbers_as_they_were_written(api: Api, oz: Browser) -> None:
    job = api.made(content={"old": 1})
    content = '{"a": 1.10, "b": 1e400, "c": 123456789012345678901234567890, "d": -0.0}'
    assert edit(oz, job, content=content).status == 303
    stored = api.get(job["uid"]).body
    for number in (b"1.10", b"1e400", b"123456789012345678901234567890", b"-0.0"):
        assert number in stored
    shown = re.search("<pre[^>]*>(.*?)</pre>", oz.get(f"/jobs/{job['uid']}").text, re.DOTALL)
    assert shown is not None
    assert re.findall(r": ([^,\n]*)", unescape(shown[1])) == [
        "1.10",
        "1e400",
        "123456789012345678901234567890",
        "-0.0",
    ]


def test_saving_what_the_form_shows_changes_nothing(api: Api, oz: Browser) -> None:
    job = api.made(content={"text": "a\nb", "<b>": ["ü", 1.10]})
    page = oz.get(f"/jobs/{job['uid']}").text
    text = re.search("<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)
    time = re.search(r'name="timeout_time" value="([^"]*)"', page)
    assert text is not None
    assert time is not None
    content = unescape(text[1]).replace("\n", "\r\n")  # as browsers send it
    saved = edit(oz, job, content=content, timeout_time=time[1], priority="50")
    assert saved.notice == "Nothing was changed."
    assert api.get(job["uid"]).json() == job


def test_a_priority_and_a_time_are_edited(api: Api, oz: Browser, ann: Browser) -> None:
    job = api.made()
    page = edit(oz, job, priority="7", timeout_time="2031-02-03 04:05:06")
    assert (page.status, page.notice) == (303, "The job was changed.")
    changed = api.get(job["uid"]).json()
    assert (changed["priority"], changed["timeout_time"]) == (7, 1_927_857_906)
    assert changed["content"] == job["content"]
    (entry,) = trail(ann, job["uid"])
    assert "oz by dashboard" in entry
    assert "job.changed" in entry


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        *(
            ({"content": content}, "content")
            for content in ("", "[1]", '"x"', "7", "null", "{", '{"a":}', "{}x", "[" * 100_000)
        ),
        *(({"priority": value}, "priority") for value in ("0", "101", "x", "5.0", "-1", "²")),
        *(
            ({"timeout_time": value}, "timeout_time")
            for value in ("soon", "1969-12-31 23:59:59", "2031-02-30 00:00:00", "10000-01-01 0:0:0")
        ),
        *(({"seen": value, "priority": "9"}, "job") for value in ("", "x", f"{NO_UID}:done")),
    ],
)
@on_one
def test_a_bad_edit_names_the_field_and_changes_nothing(
    api: Api, oz: Browser, fields: dict[str, str], named: str
) -> None:
    job = api.made(content={"a": 1})
    page = edit(oz, job, **fields)
    assert page.status == 400
    assert named in text_of(page.text.partition("<main")[2])
    assert api.get(job["uid"]).json() == job


def test_a_job_says_who_made_claimed_and_completed_it(house: House, api: Api, oz: Browser) -> None:
    job = api.as_service("maker").made()
    house.clock.advance(5)
    api.as_service("worker").next()
    house.clock.advance(65)
    api.as_service("checker").update(job["uid"], status="complete")
    steps = history(oz, job)
    assert [re.sub(r" 20\d\d-.*", "", step) for step in steps] == [
        "Created by maker",
        "Claimed by worker",
        "Complete by checker",
        "Will be deleted",
    ]
    assert ", after 5 s" in steps[1]
    assert ", after 1 min 5 s" in steps[2]


def test_a_job_says_all_that_happened_to_it_before(house: House, oz: Browser) -> None:
    api = house.server.api("brief")
    job = api.as_service("maker").made()
    api.as_service("worker").next()
    house.clock.advance(62)
    failed = api.get(job["uid"]).json()
    oz.post("/jobs/act", {"queue": api.queue, "action": "retried", "job": tick(failed)})
    api.as_service("other").next()
    api.as_service("other").update(job["uid"], status="failed")
    house.clock.advance(9)
    api.as_service("checker").update(job["uid"], status="complete")
    assert [re.sub(r" 20\d\d-.*", "", step) for step in history(oz, job)] == [
        "Created by maker",
        "Claimed by worker",
        "Failed, since its window ended",
        "Put back to queued by oz by dashboard",
        "Claimed again by other",
        "Failed by other",
        "Complete by checker",
        "Will be deleted",
    ]


def test_a_job_says_how_much_of_its_past_is_dropped(api: Api, oz: Browser) -> None:
    job = api.made()
    states = ["inprogress", "queued"] * 30
    api.send("POST", "/api/v1/jobs", [{"uid": job["uid"], "status": state} for state in states])
    steps = history(oz, job)
    assert len(steps) == 2 + STEPS_MAX + 1
    assert steps[1] == "10 steps after it: no longer kept."
    assert steps[2].startswith("Claimed 6 times, this the last by both")


def test_an_edit_of_a_job_that_its_window_failed_does_not_say_that_its_editor_failed_it(
    house: House, oz: Browser
) -> None:
    api = house.server.api("brief")
    job = api.made()
    api.next()
    house.clock.advance(62)
    api.update(job["uid"], priority=7)
    assert history(oz, job)[2].startswith("Failed, since its window ended 20")


def test_a_job_says_that_its_window_failed_it(house: House, oz: Browser) -> None:
    api = house.server.api("brief")
    job = api.made()
    api.next()
    house.clock.advance(62)
    steps = history(oz, job)
    assert steps[-2].startswith("Failed, since its window ended 20")
    assert api.get(job["uid"]).json()["state"] == "failed"


def history(browser: Browser, job: dict[str, Any]) -> list[str]:
    page = browser.get(f"/jobs/{job['uid']}")
    (timeline,) = re.findall('<ol class="timeline">(.*?)</ol>', page.text, re.DOTALL)
    return [text_of(item) for item in re.findall("<li.*?</li>", timeline, re.DOTALL)]


def test_a_job_is_found_by_its_uid_and_by_how_it_begins(
    house: House, api: Api, oz: Browser
) -> None:
    first, second = api.made(), api.made()
    for text in (first["uid"], first["uid"].upper(), first["uid"].replace("-", "")):
        assert oz.get("/find?uid=" + text).location == f"/jobs/{first['uid']}"
    pairs = zip(first["uid"], second["uid"], strict=True)
    beginning = "".join(one for one, other in takewhile(lambda pair: pair[0] == pair[1], pairs))
    page = oz.get(f"/find?uid=%20{beginning}")
    assert {first["uid"], second["uid"]} <= set(page.uids)
    assert all(uid.startswith(beginning) for uid in page.uids)


@pytest.mark.parametrize("text", ["", "zz", NO_UID, "%3Cscript%3E", "f" * 200, "-"])
@on_one
def test_what_is_no_beginning_of_a_uid_finds_nothing(oz: Browser, text: str) -> None:
    page = oz.get(f"/find?uid={text}")
    assert page.status == 200
    assert "There is none" in page.text


def test_a_large_content_is_edited_though_its_lines_make_it_larger(api: Api, oz: Browser) -> None:
    job = api.made(content={"numbers": [1] * 40_000, "text": "x" * 800_000})
    page = oz.get(f"/jobs/{job['uid']}").text
    text = re.search("<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)
    assert text is not None
    saved = edit(
        oz, job, content=unescape(text[1]).replace("\n", "\r\n"), priority="7", timeout_time=""
    )
    assert saved.notice == "The job was changed."
    assert api.get(job["uid"]).json()["content"] == job["content"]


def test_a_content_that_is_too_long_is_refused_by_its_name(api: Api, oz: Browser) -> None:
    job = api.made()
    much = json.dumps({"a": "x" * 1_100_000})
    page = edit(oz, job, content=much, priority="50", timeout_time="")
    assert (page.status, "content: expected at most 1048576 bytes" in page.text) == (400, True)
    assert api.get(job["uid"]).json() == job


@pytest.mark.parametrize("depth", [1, 100, 900])
def test_the_page_of_a_deep_content_is_not_much_larger_than_that(
    api: Api, oz: Browser, depth: int
) -> None:
    """Each of its lines would begin with twice as many spaces."""
    many = "1," * 40_000 + "1"
    body = '{"content":{"a":%s},"valid_for":600,"priority":50}'
    sent = (body % ("[" * depth + many + "]" * depth)).encode()
    uid = api.send("PUT", "/api/v1/jobs/create", sent).json()["uid"]
    page = oz.get(f"/jobs/{uid}")
    assert page.status == 200
    assert len(page.text) < 2 * (len(sent) + 256 * 1024) + 50_000
    edited = edit(oz, api.get(uid).json(), content="{}", priority="50", timeout_time="")
    assert edited.notice == "The job was changed."
