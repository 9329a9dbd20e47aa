"""Who may see and do what."""

import pytest

from tests.dashboard.pages import (
    SECRET_CONTENT,
    jobs_page,
    tick,
    trail,
)
from tests.harness.browser import Browser
from tests.harness.client import Api
from tests.harness.filling import fill
from tests.harness.house import House


@pytest.mark.parametrize(
    "path", ["/jobs/act", "/jobs/{uid}", "/queue/pause", "/queue/resume", "/queue/purge"]
)
@pytest.mark.parametrize("name", ["vic", "rev"])
def test_a_viewer_acts_on_nothing(house: House, api: Api, name: str, path: str) -> None:
    job = api.made()
    fields = {"queue": api.queue, "name": api.queue, "action": "deleted", "job": tick(job)}
    page = house.browser(name).post(path.format(uid=job["uid"]), {**fields, "confirmed": "1"})
    assert (page.status, page.title) == (403, "Not for you")
    assert api.get(job["uid"]).json() == job


@pytest.mark.parametrize("name", ["vic", "rev"])
def test_contents_are_hidden_from_viewers_on_every_page(house: House, api: Api, name: str) -> None:
    job, _ = (api.made(content=SECRET_CONTENT) for _ in range(2))
    viewer = house.browser(name)
    listed, shown = f"/jobs?queue={api.queue}", f"/jobs/{job['uid']}"
    for path in ("/", f"/queue?name={api.queue}", listed, shown, "/find?uid=0"):
        page = viewer.get(path)
        assert page.status == 200
        assert "trojan" not in page.text
        assert "credit" not in page.text
    assert job["uid"] in viewer.get(listed).text


def test_a_viewer_cannot_find_out_contents_by_searching(house: House, api: Api) -> None:
    job = api.made(content=SECRET_CONTENT)
    vic = house.browser("vic")
    for text in ("trojan", "nowhere"):
        assert jobs_page(vic, api.queue, contains=text).uids == [job["uid"]]
    assert 'name="contains"' not in jobs_page(vic, api.queue).text


def test_a_content_that_is_revealed_is_shown_once_the_trail_says_so(
    house: House, api: Api, ann: Browser
) -> None:
    job = api.made(content=SECRET_CONTENT)
    path = f"/jobs/{job['uid']}"
    rev = house.browser("rev")
    assert f'action="{path}/reveal"' in rev.get(path).text
    page = rev.post(f"{path}/reveal")
    assert page.status == 200
    assert "trojan horse" in page.text
    assert 'id="edit"' not in page.text
    (entry,) = trail(ann, job["uid"])
    assert "rev by dashboard" in entry
    assert "job.revealed" in entry
    assert "trojan" not in rev.get(path).text
    refreshed = rev.get(f"{path}/reveal")
    assert (refreshed.status, refreshed.location) == (303, path)


def test_a_viewer_of_many_jobs_is_offered_nothing_to_do(house: House, api: Api) -> None:
    fill(api, 60, size=1)
    path = f"/jobs?queue={api.queue}"
    assert 'value="deleted"' in house.browser("oz").get(path).text
    page = house.browser("vic").get(path)
    assert page.next
    assert 'value="deleted"' not in page.text


def test_a_viewer_without_the_grant_reveals_nothing(house: House, api: Api, ann: Browser) -> None:
    job = api.made(content=SECRET_CONTENT)
    path = f"/jobs/{job['uid']}"
    vic = house.browser("vic")
    assert "/reveal" not in vic.get(path).text
    page = vic.post(f"{path}/reveal")
    assert page.status == 403
    assert "trojan" not in page.text
    assert trail(ann, job["uid"]) == []


@pytest.mark.parametrize("path", ["/queue/pause", "/queue/resume", "/queue/purge"])
def test_an_operator_administers_no_queue(api: Api, oz: Browser, path: str) -> None:
    job = api.made()
    assert oz.post(path, {"name": api.queue, "confirmed": "1"}).status == 403
    assert api.get(job["uid"]).status == 200
    assert f'action="{path}"' not in oz.get(f"/queue?name={api.queue}").text


@pytest.mark.parametrize("name", ["vic", "rev", "oz"])
def test_the_audit_trail_and_the_config_are_for_admins(house: House, name: str) -> None:
    browser = house.browser(name)
    assert browser.get("/audit").status == 403
    assert "/audit" not in browser.get("/").text
    assert "Config in force" not in browser.get("/system").text


def test_an_admin_reads_the_audit_trail_and_the_config(ann: Browser) -> None:
    assert "user.signed_in" in ann.get("/audit").text
    assert "Config in force" in ann.get("/system").text
