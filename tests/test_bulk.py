"""Many jobs in one call, and completing one and claiming the next in one."""

from typing import Any

import pytest

from jobengine.domain.job import TIME_MAX
from tests.harness.client import Answer, Api, JobDict
from tests.harness.clock import FileClock
from tests.test_bad_input import assert_problem, pointers

CREATE = "/api/v1/jobs/create"
NO_UID = "00000000-0000-7000-8000-000000000000"


def draft(**fields: Any) -> dict[str, Any]:
    return {"content": {}, "valid_for": 600, "priority": 50} | fields


def create(api: Api, *drafts: Any) -> Answer:
    return api.send("PUT", CREATE, list(drafts))


def claim(api: Api, count: int) -> list[JobDict]:
    answer = api.send("GET", f"/api/v1/jobs/next?count={count}")
    if answer.status == 204:
        return []
    jobs: list[JobDict] = answer.json()
    return jobs


def update(api: Api, *updates: Any, query: str = "") -> Answer:
    return api.send("POST", f"/api/v1/jobs{query}", list(updates))


def test_an_array_creates_its_jobs_in_their_order(api: Api) -> None:
    answer = create(api, *(draft(content={"n": n}, priority=1 + n % 3) for n in range(10)))
    assert answer.status == 201
    jobs = answer.json()
    assert [job["content"]["n"] for job in jobs] == list(range(10))
    assert api.listed() == sorted(jobs, key=lambda job: -job["priority"])


def test_an_array_of_one_is_answered_by_an_array(api: Api) -> None:
    (job,) = create(api, draft()).json()
    assert api.get(job["uid"]).json() == job


def test_a_mistake_in_one_element_creates_none_and_points_at_it(api: Api) -> None:
    drafts = [draft(), draft(priority=0), draft(content=[], valid_for="x"), 7, {}, draft(a=1)]
    problem = assert_problem(create(api, *drafts), 400, "invalid-input")
    assert pointers(problem) == [
        "/1/priority",
        "/2/content",
        "/2/valid_for",
        "/3",
        "/4/content",
        "/4/valid_for",
        "/4/priority",
        "/5/a",
    ]
    assert api.listed() == []


def test_a_time_beyond_the_year_9999_points_at_its_element(api: Api) -> None:
    answer = create(api, draft(), draft(valid_for=TIME_MAX))
    assert pointers(assert_problem(answer, 400)) == ["/1/valid_for"]
    assert api.listed() == []


@pytest.mark.parametrize("count", [0, 1001])
def test_arrays_have_1_to_1000_elements(api: Api, count: int) -> None:
    assert pointers(assert_problem(create(api, *[draft()] * count), 400)) == [""]
    updates = [{"uid": NO_UID}] * count
    assert pointers(assert_problem(update(api, *updates), 400)) == [""]
    assert api.listed() == []


def test_1000_at_once_go_in_out_and_through(api: Api) -> None:
    jobs = create(api, *[draft()] * 1000).json()
    claimed = claim(api, 1000)
    assert [job["uid"] for job in claimed] == [job["uid"] for job in jobs]
    done = update(api, *({"uid": job["uid"], "status": "complete"} for job in claimed)).json()
    assert [job["state"] for job in done] == ["complete"] * 1000
    assert len(api.listed("complete")) == 1000


@pytest.mark.parametrize("body", [b"[", b"[}", b"[{]", b"[" * 100_000, b'[{"content":{"a":NaN}}]'])
def test_a_malformed_array_is_400(api: Api, body: bytes) -> None:
    assert_problem(api.send("PUT", CREATE, body), 400, "invalid-input")
    assert_problem(api.send("POST", "/api/v1/jobs", body), 400, "invalid-input")


def test_a_list_of_mistakes_ends_somewhere(api: Api) -> None:
    problem = assert_problem(create(api, *[draft(priority=0)] * 1000), 400)
    assert len(problem["errors"]) == 20
    unknown = draft(**{f"unknown{n}": n for n in range(5000)})
    assert len(assert_problem(api.send("PUT", CREATE, unknown), 400)["errors"]) == 20


def test_count_claims_the_head_in_order_and_no_more_than_there_is(api: Api) -> None:
    jobs = create(api, *(draft(priority=1 + n) for n in range(5))).json()
    assert [job["uid"] for job in claim(api, 2)] == [jobs[4]["uid"], jobs[3]["uid"]]
    last = claim(api, 1000)
    assert [job["uid"] for job in last] == [job["uid"] for job in reversed(jobs[:3])]
    assert all(job["state"] == "inprogress" for job in last)
    assert claim(api, 1) == []
    assert api.send("GET", "/api/v1/jobs/next?count=1").status == 204


def test_a_count_of_one_is_answered_by_an_array(api: Api) -> None:
    api.made()
    assert len(claim(api, 1)) == 1


@pytest.mark.parametrize("query", ["count=0", "count=1001", "count=x", "count=", "count=1&count=2"])
def test_a_bad_count_is_400_and_claims_nothing(api: Api, query: str) -> None:
    job = api.made()
    assert_problem(api.send("GET", f"/api/v1/jobs/next?{query}"), 400, "invalid-input")
    assert api.listed("queued") == [job]


def test_a_claim_holds_at_most_16_mib_of_content(api: Api) -> None:
    for _ in range(20):
        api.create({"filler": "x" * 1_000_000})
    first = claim(api, 20)
    assert len(first) == 16
    assert len(claim(api, 20)) == 4
    assert len(api.listed("inprogress")) == 20


def test_updates_are_answered_in_their_order_and_a_stale_one_fails_alone(
    api: Api, clock: FileClock
) -> None:
    kept, gone, expired = api.made(), api.made(), api.made(valid_for=1)
    api.delete(gone["uid"])
    clock.advance(2)
    answer = update(
        api,
        {"uid": NO_UID, "status": "failed"},
        {"uid": kept["uid"], "status": "complete", "content": {"done": True}},
        {"uid": gone["uid"], "priority": 3},
        {"uid": expired["uid"]},
        {"uid": "no uid at all"},
        {"uid": kept["uid"].upper(), "priority": 7},
    )
    assert answer.status == 200
    outcomes = answer.json()
    assert [outcome.get("status") for outcome in outcomes] == [404, None, 404, 404, 404, None]
    assert outcomes[0]["type"] == "urn:jobengine:problem:unknown-job"
    assert outcomes[1] == kept | {
        "state": "complete",
        "content": {"done": True},
        "last_updated": clock.now(),
    }
    assert outcomes[5] == outcomes[1] | {"priority": 7}
    assert api.get(kept["uid"]).json() == outcomes[5]


def test_an_answer_to_updates_holds_at_most_16_mib_of_content(api: Api) -> None:
    jobs = [api.create({"filler": "x" * 1_000_000}).json() for _ in range(20)]
    updates = [{"uid": job["uid"], "status": "complete"} for job in jobs]
    outcomes = update(api, {"uid": NO_UID}, *updates).json()
    assert [outcome["status"] for outcome in outcomes if "status" in outcome] == [404, *[503] * 4]
    assert [outcome["content"] for outcome in outcomes[1:17]] == [
        job["content"] for job in jobs[:16]
    ]
    assert outcomes[17]["type"] == "urn:jobengine:problem:answer-full"
    assert len(api.listed("queued")) == 4, "those that were refused are as they were"
    again = update(api, *updates[16:]).json()
    assert [outcome["state"] for outcome in again] == ["complete"] * 4


def test_contents_of_every_length_come_back_whole(api: Api) -> None:
    lengths = (0, 1, 4083, 4084, 4085, 4086, 5000, 200_000)
    jobs = [api.create({"filler": "x" * length}).json() for length in lengths]
    claimed = claim(api, len(lengths))
    assert [job["content"] for job in claimed] == [job["content"] for job in jobs]
    outcomes = update(api, *({"uid": job["uid"], "priority": 3} for job in jobs)).json()
    assert [job["content"] for job in outcomes] == [job["content"] for job in jobs]
    update(api, *({"uid": job["uid"], "content": {"n": len(job["uid"])}} for job in jobs))
    assert {job["content"]["n"] for job in api.listed()} == {36}


def test_a_mistake_in_one_update_changes_none(api: Api) -> None:
    job = api.made()
    updates = [{"uid": job["uid"], "status": "failed"}, {"uid": job["uid"], "state": "failed"}, {}]
    problem = assert_problem(update(api, *updates), 400, "invalid-input")
    assert pointers(problem) == ["/1/state", "/2/uid"]
    assert api.listed() == [job]


def test_complete_and_claim_in_one_call(api: Api) -> None:
    first, second = api.made(), api.made()
    assert api.next().json()["uid"] == first["uid"]
    body = {"status": "complete"}
    answer = api.send("POST", f"/api/v1/jobs/{first['uid']}?next=1", body)
    assert (answer.status, answer.json()["uid"]) == (200, second["uid"])
    assert answer.json()["state"] == "inprogress"
    assert api.get(first["uid"]).json()["state"] == "complete"
    answer = api.send("POST", f"/api/v1/jobs/{second['uid']}?next=1", body)
    assert (answer.status, answer.body) == (204, b"")
    assert api.get(second["uid"]).json()["state"] == "complete"


def test_a_refused_update_claims_nothing(api: Api) -> None:
    job = api.made()
    body = {"status": "complete"}
    assert_problem(api.send("POST", f"/api/v1/jobs/{NO_UID}?next=1", body), 404, "unknown-job")
    assert_problem(api.send("POST", f"/api/v1/jobs/{NO_UID}?next=1", {"priority": 0}), 400)
    assert api.listed("queued") == [job]


def test_a_job_put_back_may_be_the_next(api: Api) -> None:
    job = api.made("inprogress")
    answer = api.send("POST", f"/api/v1/jobs/{job['uid']}?next=1", {"status": "queued"})
    assert answer.json()["uid"] == job["uid"]


@pytest.mark.parametrize("query", ["next=0", "next=2", "next=x", "nxt=1"])
def test_a_bad_next_changes_nothing(api: Api, query: str) -> None:
    job = api.made()
    answer = api.send("POST", f"/api/v1/jobs/{job['uid']}?{query}", {"status": "failed"})
    assert_problem(answer, 400, "invalid-input")
    assert api.listed() == [job]


def test_many_are_completed_and_many_claimed_in_one_call(api: Api) -> None:
    create(api, *(draft(content={"n": n}) for n in range(10)))
    held = claim(api, 4)
    updates = [{"uid": job["uid"], "status": "complete"} for job in held]
    answer = update(api, *updates, {"uid": NO_UID}, query="?next=5").json()
    assert [outcome.get("state") for outcome in answer["updated"]] == ["complete"] * 4 + [None]
    assert [job["content"]["n"] for job in answer["jobs"]] == [4, 5, 6, 7, 8]
    empty = update(api, {"uid": NO_UID}, query="?next=1000").json()
    assert len(empty["jobs"]) == 1
    assert update(api, {"uid": "x"}, query="?next=1").json()["jobs"] == []


def test_the_bulk_calls_need_their_rights(api: Api) -> None:
    job = api.made()
    as_reader, as_writer = api.as_service("reader"), api.as_service("writer")
    one = {"uid": job["uid"]}
    assert create(as_reader, draft()).status == 403
    assert as_writer.send("GET", "/api/v1/jobs/next?count=5").status == 403
    assert update(as_writer, one).status == update(as_reader, one).status == 200
    assert update(as_writer, one, query="?next=1").status == 403
    assert as_writer.send("POST", f"/api/v1/jobs/{job['uid']}?next=1", {}).status == 403
    assert update(api.as_service("stranger"), one).status == 403
    assert len(api.listed("queued")) == 1
