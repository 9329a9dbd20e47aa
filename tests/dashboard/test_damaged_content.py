"""A job whose content does not open, on the pages."""

import pytest

from tests.dashboard.pages import edit, jobs_page, seen_in, text_of
from tests.harness.browser import Browser
from tests.harness.client import Api
from tests.harness.house import House
from tests.harness.postgresql import Cluster
from tests.test_damaged import Spoiler

# A file authenticates its pages, and none of its contents by itself.
pytestmark = pytest.mark.parametrize("house", ["postgresql"], indirect=True)


def test_a_content_that_postgresql_cannot_read_keeps_no_page_away(
    house: House, api: Api, oz: Browser, cluster: Cluster
) -> None:
    job = api.made(content={"filler": "x" * 3000})
    Spoiler(cluster, house.server.env["DATABASE_URL"]).lose_chunks()
    other = api.made(content={"word": "other"})
    assert jobs_page(oz, api.queue).uids == [job["uid"], other["uid"]]
    assert jobs_page(oz, api.queue, contains="other").uids == [other["uid"]]
    assert "The content is damaged" in text_of(oz.get(f"/jobs/{job['uid']}").text)
    saved = edit(oz, job, seen=seen_in(oz, job), content='{"word": "mended"}')
    assert saved.notice == "The job was changed."


def test_a_damaged_content_is_shown_as_that_and_mended_by_an_edit(
    house: House, api: Api, oz: Browser, cluster: Cluster
) -> None:
    job, other = api.made(content={"word": "null"}), api.made(content={"word": "null"})
    Spoiler(cluster, house.server.env["DATABASE_URL"]).spoil(job)
    page = jobs_page(oz, api.queue)
    assert page.uids == [job["uid"], other["uid"]]
    assert page.text.count(">damaged<") == 1
    assert jobs_page(oz, api.queue, contains="null").uids == [other["uid"]]
    page = oz.get(f"/jobs/{job['uid']}")
    assert page.status == 200
    assert "The content is damaged" in text_of(page.text)
    saved = edit(oz, job, seen=seen_in(oz, job), content='{"word": "mended"}')
    assert saved.notice == "The job was changed."
    assert api.next().json()["content"] == {"word": "mended"}
    assert "damaged" not in oz.get(f"/jobs/{other['uid']}").text
