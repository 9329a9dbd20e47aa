"""What was sent comes back as text, under headers that keep it from harm."""

import re
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest

from tests.dashboard.pages import (
    on_one,
    tick,
)
from tests.harness.browser import Browser
from tests.harness.house import MARKUP, ODD, House


def test_an_odd_name_of_a_queue_is_a_name_like_any_other(house: House, ann: Browser) -> None:
    api = house.server.api(ODD)
    job = api.made()
    page = ann.get("/queue?name=" + quote(ODD, safe=""))
    assert page.title == ODD
    (link,) = set(re.findall(r'href="(/jobs\?[^"]*)">Look', page.text))
    assert ann.get(unescape(link)).uids == [job["uid"]]
    fields = {"queue": ODD, "action": "prioritised", "to": "3", "job": tick(job)}
    done = ann.post("/jobs/act", fields)
    assert ann.get(done.location).uids == [job["uid"]]
    assert ann.get(ann.post("/queue/pause", {"name": ODD}).location).title == ODD
    ann.post("/queue/resume", {"name": ODD})
    assert api.next().json()["priority"] == 3


@pytest.fixture(scope="module")
def marked(house: House) -> dict[str, Any]:
    """A job whose queue, service and content are markup."""
    api = house.server.api(MARKUP, MARKUP)
    job = api.made(content={"</pre></textarea>" + MARKUP: [MARKUP, '"><img src=x onerror=y>']})
    house.browser("oz").post(
        "/jobs/act", {"queue": MARKUP, "action": "prioritised", "to": "9", "job": tick(job)}
    )
    api.update(job["uid"], status="failed")
    return job


PAGES = [
    "/",
    f"/queue?name={quote(MARKUP)}",
    f"/jobs?queue={quote(MARKUP)}",
    f"/jobs?queue={quote(MARKUP)}&contains=script",
    "/jobs/{uid}",
    "/find?uid=" + quote(MARKUP),
    "/find?uid={uid:.8}",
    "/system",
    "/audit",
    "/nothing?state=" + quote(MARKUP),
    f"/jobs?queue=queue0&state={quote(MARKUP)}",
]


@pytest.mark.parametrize("path", PAGES)
@on_one
def test_markup_comes_out_as_text(ann: Browser, marked: dict[str, Any], path: str) -> None:
    text = ann.get(path.format(uid=marked["uid"])).text
    assert "<script>" not in text
    assert "<img" not in text
    assert "</pre></textarea>" not in text


@on_one
def test_markup_in_a_name_and_a_content_is_shown(ann: Browser, marked: dict[str, Any]) -> None:
    text = unescape(ann.get(f"/jobs/{marked['uid']}").text)
    assert f"Created</strong> by {MARKUP}" in text
    assert f'"</pre></textarea>{MARKUP}"' in text


@pytest.mark.parametrize("path", ["/login", "/logout", "/nothing?x", "/static/none.js", *PAGES])
@on_one
def test_every_page_has_the_headers_that_keep_it_from_harm(
    ann: Browser, marked: dict[str, Any], path: str
) -> None:
    page = ann.get(path.format(uid=marked["uid"]))
    if path.startswith("/nothing"):
        assert page.headers["content-type"] == "application/problem+json"  # the API's
        return
    if page.status == 303:
        page = Browser(ann.port).get("/login")
    policy = dict(
        part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "same-origin"
    assert page.headers["cross-origin-opener-policy"] == "same-origin"
    assert page.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?! src=\"/static/)|<style|<[^>]*\s(on[a-z]+|style)=", page.text)
