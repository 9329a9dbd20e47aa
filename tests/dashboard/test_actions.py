"""What is done to jobs, one or many."""

import pytest

from jobengine.engine.desk import STEP_MAX
from tests.dashboard.pages import (
    ACTIONS,
    STATES,
    edit,
    seen_in,
    tick,
    trail,
)
from tests.harness.browser import Browser
from tests.harness.client import Api
from tests.harness.filling import fill
from tests.harness.house import House


@pytest.mark.parametrize("action", ACTIONS)
def test_an_operator_brings_jobs_into_a_state(
    api: Api, oz: Browser, ann: Browser, action: str
) -> None:
    jobs = [api.made(state) for state in STATES if state != ACTIONS[action]]
    fields = {"queue": api.queue, "action": action, "job": tick(*jobs), "confirmed": "1"}
    page = oz.post("/jobs/act", fields)
    assert page.status == 303
    assert page.notice.startswith("3 jobs were ")
    assert [job["state"] for job in api.listed()] == [ACTIONS[action]] * 3
    (entry,) = trail(ann, api.queue)
    assert f"oz by dashboard 127.0.0.1 job.{action} {api.queue}" in entry
    assert all(job["uid"] in entry for job in jobs)


def test_jobs_are_given_another_priority(api: Api, oz: Browser) -> None:
    first, second = api.made(priority=10), api.made(priority=20)
    fields = {"queue": api.queue, "action": "prioritised", "to": "77", "job": tick(first)}
    assert oz.post("/jobs/act", fields).notice == "1 job was given another priority."
    assert [(job["uid"], job["priority"]) for job in api.listed()] == [
        (first["uid"], 77),
        (second["uid"], 20),
    ]


@pytest.mark.parametrize("action", ["deleted", "completed", "failed"])
def test_what_cannot_be_taken_back_is_asked_first(api: Api, oz: Browser, action: str) -> None:
    job, other = api.made(), api.made()
    fields = {"queue": api.queue, "action": action, "job": tick(job)}
    page = oz.post("/jobs/act", fields)
    assert (page.status, page.title) == (200, "Sure?")
    assert tick(job)[0] in page.text
    assert api.listed() == [job, other]
    assert oz.post("/jobs/act", {**fields, "confirmed": "1"}).status == 303
    assert api.get(job["uid"]).json() != job
    assert api.get(other["uid"]).json() == other


@pytest.mark.parametrize("action", ["retried", "prioritised", "deleted"])
def test_whatever_is_done_to_all_of_a_view_is_asked_first(
    api: Api, oz: Browser, action: str
) -> None:
    failed, queued = api.made("failed"), api.made()
    fields = {"queue": api.queue, "state": "failed", "all": "1", "action": action, "to": "99"}
    assert oz.post("/jobs/act", fields).title == "Sure?"
    assert api.get(failed["uid"]).json() == failed
    assert oz.post("/jobs/act", {**fields, "confirmed": "1"}).notice.startswith("1 job was ")
    changed = api.get(failed["uid"])
    assert changed.status == 404 if action == "deleted" else changed.json() != failed
    assert api.get(queued["uid"]).json() == queued


def test_a_job_that_changed_meanwhile_is_left_alone_and_said_so(api: Api, oz: Browser) -> None:
    seen, other = api.made(), api.made()
    claimed = api.next().json()
    assert claimed["uid"] == seen["uid"]
    gone = api.made()
    api.delete(gone["uid"])
    fields = {"queue": api.queue, "action": "deleted", "confirmed": "1"}
    page = oz.post("/jobs/act", {**fields, "job": tick(seen, other, gone)})
    assert page.notice == (
        "1 job was deleted; 2 had changed or gone meanwhile, and were left alone."
    )
    assert api.listed() == [claimed]


def test_an_edit_of_a_job_that_changed_meanwhile_is_a_conflict(api: Api, oz: Browser) -> None:
    seen = api.made()
    claimed = api.next().json()
    page = edit(oz, seen, priority="77")
    assert page.status == 409
    assert api.get(seen["uid"]).json() == claimed


def test_of_two_edits_of_one_job_the_later_is_a_conflict(
    house: House, api: Api, oz: Browser
) -> None:
    job = api.made(content={"n": 1})
    ours, theirs = (seen_in(browser, job) for browser in (oz, house.browser("ann")))
    assert edit(house.browser("ann"), job, seen=theirs, content='{"n": 2}').status == 303
    changed = api.get(job["uid"]).json()
    assert edit(oz, job, seen=ours, content='{"n": 3}').status == 409
    assert api.get(job["uid"]).json() == changed
    assert edit(oz, changed, seen=seen_in(oz, job), content='{"n": 3}').status == 303
    assert api.get(job["uid"]).json()["content"] == {"n": 3}


def test_an_edit_goes_through_where_only_the_worker_was_heard_of(api: Api, oz: Browser) -> None:
    job = api.made("inprogress", content={"n": "x" * 5000})
    seen = seen_in(oz, job)
    assert api.update(job["uid"]).status == 200
    assert edit(oz, job, seen=seen, priority="77").status == 303


@pytest.mark.parametrize("action", ["retried", "completed", "deleted"])
def test_an_action_on_a_job_s_own_page_leads_back_to_it_while_it_is_there(
    api: Api, oz: Browser, action: str
) -> None:
    job = api.made("failed")
    own = f"/jobs/{job['uid']}"
    assert 'name="own"' in oz.get(own).text
    fields = {"queue": api.queue, "action": action, "job": tick(job), "own": "1"}
    if action != "retried":
        page = oz.post("/jobs/act", fields)
        assert page.title == "Sure?"
        assert f'href="{own}"' in page.text
        assert 'name="own"' in page.text
        fields["confirmed"] = "1"
    back = f"/jobs?queue={api.queue}" if action == "deleted" else own
    assert oz.post("/jobs/act", fields).location == back


def test_all_of_a_view_is_done_in_steps(api: Api, oz: Browser) -> None:
    more = 30
    fill(api, STEP_MAX + more, size=1)
    fields = {"queue": api.queue, "all": "1", "action": "deleted"}
    assert "10,000 are done at once" in oz.post("/jobs/act", fields).text
    page = oz.post("/jobs/act", {**fields, "confirmed": "1"})
    assert page.notice == "10,000 jobs were deleted; there are more, do it again for the next."
    assert len(api.listed()) == more
    page = oz.post("/jobs/act", {**fields, "confirmed": "1"})
    assert page.notice == f"{more} jobs were deleted."
    assert api.listed() == []


def test_all_that_a_search_finds_is_not_acted_on(api: Api, oz: Browser) -> None:
    job = api.made(content={"a": "b"})
    fields = {"queue": api.queue, "all": "1", "action": "deleted", "contains": "zzz"}
    page = oz.post("/jobs/act", {**fields, "confirmed": "1"})
    assert page.status == 400
    assert api.listed() == [job]


def test_an_admin_pauses_and_resumes_a_queue(api: Api, ann: Browser) -> None:
    api.made()
    assert ann.post("/queue/pause", {"name": api.queue}).location == f"/queue?name={api.queue}"
    assert api.next().status == 204
    assert 'action="/queue/resume"' in ann.get(f"/queue?name={api.queue}").text
    ann.post("/queue/resume", {"name": api.queue})
    assert api.next().status == 200


@pytest.mark.parametrize("state", ["", "failed"])
def test_a_purge_is_asked_first(api: Api, ann: Browser, state: str) -> None:
    queued, failed = api.made(), api.made("failed")
    fields = {"name": api.queue, "state": state}
    page = ann.post("/queue/purge", fields)
    assert (page.status, page.title) == (200, "Sure?")
    assert len(api.listed()) == 2
    page = ann.post("/queue/purge", {**fields, "confirmed": "1"})
    assert page.location == f"/queue?name={api.queue}"
    assert api.listed() == ([queued] if state else [])
    assert api.get(failed["uid"]).status == 404
