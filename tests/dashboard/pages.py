"""What the tests of the pages look at and send."""

import json
import re
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.conftest import KINDS
from tests.harness.browser import Browser, Page

NO_UID = "00000000-0000-7000-8000-000000000000"
STATES = ("queued", "inprogress", "complete", "failed")
SECRET_CONTENT = {"credit": "trojan horse"}
# What the store has no part in is tried on one kind of database.
on_one = pytest.mark.parametrize("house", KINDS[:1], indirect=True)
ACTIONS = {"retried": "queued", "completed": "complete", "failed": "failed"}


def jobs_page(browser: Browser, queue: str, **filters: str) -> Page:
    page = browser.get("/jobs?" + urlencode({"queue": queue, **filters}))
    assert page.status == 200, page.text
    return page


def uids(browser: Browser, queue: str, **filters: str) -> list[str]:
    """The jobs of every page of a view."""
    page = jobs_page(browser, queue, **filters)
    found = page.uids
    while page.next:
        page = browser.get(page.next)
        found += page.uids
    return found


def tick(*jobs: dict[str, Any]) -> list[str]:
    return [f"{job['uid']}:{job['state']}" for job in jobs]


def trail(ann: Browser, subject: str) -> list[str]:
    """What the page of the audit trail says of something, the newest first."""
    rows = re.findall(r"<tr data-key.*?</tr>", ann.get("/audit").text, re.DOTALL)
    return [text for text in map(text_of, rows) if f" {subject} " in text]


def text_of(markup: str) -> str:
    return " ".join(unescape(re.sub("<[^>]*>", " ", markup)).split())


def edit(browser: Browser, job: dict[str, Any], **fields: str) -> Page:
    given = {"seen": tick(job)[0], "content": json.dumps(job["content"])}
    return browser.post_parts(f"/jobs/{job['uid']}", given | fields)


def seen_in(browser: Browser, job: dict[str, Any]) -> str:
    """What the form of the job's page says that was seen."""
    shown = re.search('name="seen" value="([^"]*)"', browser.get(f"/jobs/{job['uid']}").text)
    assert shown is not None
    return shown[1]
