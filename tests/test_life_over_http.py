"""A job's life, as a client sees it: every state, each at its exact second."""

import pytest

from tests.conftest import KEEP, WINDOW
from tests.harness.client import Api
from tests.harness.clock import FileClock

STATES = ["queued", "inprogress", "complete", "failed"]


def test_a_created_job_is_queued_with_the_fields_of_the_specification(
    api: Api, clock: FileClock
) -> None:
    answer = api.create({"job": "content"}, priority=80, valid_for=600)
    assert answer.status == 201
    job = answer.json()
    now = clock.now()
    assert list(job) == [
        "content",
        "created",
        "last_updated",
        "priority",
        "state",
        "timeout_time",
        "uid",
    ]
    assert len(job.pop("uid")) == 36
    assert job == {
        "content": {"job": "content"},
        "created": now,
        "last_updated": now,
        "priority": 80,
        "state": "queued",
        "timeout_time": now + 600,
    }


def test_uids_are_unique(api: Api) -> None:
    assert len({api.made()["uid"] for _ in range(50)}) == 50


def test_next_puts_the_job_in_progress(api: Api, clock: FileClock) -> None:
    created = api.made(content={"job": "content"})
    clock.advance(5)
    answer = api.next()
    assert answer.status == 200
    assert answer.json() == created | {"state": "inprogress", "last_updated": clock.now()}
    assert api.get(created["uid"]).json() == answer.json()


def test_last_updated_is_later_than_created_when_claimed_in_the_same_second(api: Api) -> None:
    created = api.made()
    claimed = api.next().json()
    assert claimed["last_updated"] == created["created"] + 1
    updated = api.update(claimed["uid"], status="complete").json()
    assert updated["last_updated"] == claimed["last_updated"], "it never decreases"


def test_next_on_an_empty_queue_is_204_without_a_body(api: Api) -> None:
    answer = api.next()
    assert (answer.status, answer.body) == (204, b"")


def test_next_hands_out_a_job_once(api: Api) -> None:
    api.made()
    assert api.next().status == 200
    assert api.next().status == 204


def test_the_highest_priority_comes_first_and_within_it_the_oldest(
    api: Api, clock: FileClock
) -> None:
    made = []
    for index, priority in enumerate([50, 100, 1, 50, 100, 50]):
        made.append((-priority, index, api.made(priority=priority)["uid"]))
        clock.advance(index % 2)  # some in the same second, some in another
    expected = [uid for _, _, uid in sorted(made)]
    assert [job["uid"] for job in api.listed()] == expected
    assert [api.next().json()["uid"] for _ in made] == expected


def test_an_update_of_the_priority_moves_the_job(api: Api) -> None:
    first, second = api.made(priority=10), api.made(priority=10)
    assert api.update(second["uid"], priority=11).json()["priority"] == 11
    assert [api.next().json()["uid"] for _ in range(2)] == [second["uid"], first["uid"]]


@pytest.mark.parametrize("after", STATES)
@pytest.mark.parametrize("before", STATES)
def test_an_update_may_set_any_state_from_any_state(api: Api, before: str, after: str) -> None:
    job = api.made(before)
    answer = api.update(job["uid"], status=after)
    assert (answer.status, answer.json()["state"]) == (200, after)
    assert api.get(job["uid"]).json() == answer.json()


def test_an_update_changes_what_it_names_and_nothing_else(api: Api, clock: FileClock) -> None:
    job = api.made(content={"a": 1})
    clock.advance(3)
    now = clock.now()
    answer = api.update(job["uid"], content={"b": 2}, timeout_time=now + 9, priority=7)
    assert answer.json() == job | {
        "content": {"b": 2},
        "timeout_time": now + 9,
        "priority": 7,
        "last_updated": now,
    }
    assert api.get(job["uid"]).json() == answer.json()


def test_an_empty_update_is_a_heartbeat(api: Api, clock: FileClock) -> None:
    job = api.made("inprogress")
    clock.advance(WINDOW)
    assert api.update(job["uid"]).json() == job | {"last_updated": clock.now()}
    clock.advance(WINDOW)
    assert api.get(job["uid"]).json()["state"] == "inprogress"
    clock.advance(1)
    assert api.get(job["uid"]).json()["state"] == "failed"


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_a_queued_job_lives_through_the_second_of_its_timeout_time(
    api: Api, clock: FileClock, late: int
) -> None:
    job = api.made(valid_for=100)
    clock.advance(100 + late)
    alive = late <= 0
    assert api.get(job["uid"]).status == (200 if alive else 404)
    assert api.listed() == ([job] if alive else [])
    assert api.listed("queued") == ([job] if alive else [])
    if not alive:
        assert api.update(job["uid"], status="queued").status == 404
        assert api.delete(job["uid"]).status == 404
    assert api.next().status == (200 if alive else 204)


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_a_job_in_progress_fails_after_its_window(api: Api, clock: FileClock, late: int) -> None:
    api.made()
    job = api.next().json()
    end = job["last_updated"] + WINDOW
    clock.set(end + late)
    if late <= 0:
        expected, other = job, "failed"
    else:
        expected, other = job | {"state": "failed", "last_updated": end}, "inprogress"
    assert api.get(job["uid"]).json() == expected
    assert api.listed() == [expected]
    assert api.listed(expected["state"]) == [expected]
    assert api.listed(other) == []
    assert api.next().status == 204, "it is not handed out again"


@pytest.mark.parametrize("late", [-1, 0, 1])
@pytest.mark.parametrize("state", ["complete", "failed"])
def test_a_finished_job_is_kept_for_its_keep_time(
    api: Api, clock: FileClock, state: str, late: int
) -> None:
    job = api.made(state)
    clock.set(job["last_updated"] + KEEP + late)
    alive = late <= 0
    assert api.get(job["uid"]).status == (200 if alive else 404)
    assert api.listed() == ([job] if alive else [])
    assert api.listed(state) == ([job] if alive else [])
    assert api.update(job["uid"], status="queued").status == (200 if alive else 404)
    if not alive:
        assert api.delete(job["uid"]).status == 404


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_the_keep_time_of_a_job_that_its_window_failed_counts_from_the_end_of_the_window(
    api: Api, clock: FileClock, late: int
) -> None:
    job = api.made("inprogress")
    clock.set(job["last_updated"] + WINDOW + KEEP + late)
    alive = late <= 0
    assert api.get(job["uid"]).status == (200 if alive else 404)
    assert len(api.listed("failed")) == alive
    assert len(api.listed()) == alive
    assert api.update(job["uid"]).status == (200 if alive else 404)


def test_an_update_of_an_overdue_job_finds_it_failed(api: Api, clock: FileClock) -> None:
    job = api.made("inprogress")
    clock.advance(WINDOW + 1)
    assert api.update(job["uid"], priority=9).json() == job | {
        "state": "failed",
        "priority": 9,
        "last_updated": clock.now(),
    }


def test_an_expired_job_is_passed_over_by_next(api: Api, clock: FileClock) -> None:
    for _ in range(20):
        api.made(priority=100, valid_for=10)
    alive = api.made(priority=1, valid_for=1000)
    clock.advance(11)
    assert api.next().json()["uid"] == alive["uid"]
    assert api.next().status == 204


@pytest.mark.parametrize("state", ["inprogress", "complete", "failed"])
def test_back_to_queued_after_its_timeout_a_job_waits_as_long_as_at_first(
    api: Api, clock: FileClock, state: str
) -> None:
    job = api.made(state, valid_for=100)
    clock.advance(101)
    queued = api.update(job["uid"], status="queued").json()
    assert queued["timeout_time"] == clock.now() + 100
    assert api.next().json()["uid"] == job["uid"]


def test_back_to_queued_before_its_timeout_a_job_keeps_its_timeout_time(
    api: Api, clock: FileClock
) -> None:
    job = api.made("failed", valid_for=100)
    clock.advance(100)
    assert api.update(job["uid"], status="queued").json()["timeout_time"] == job["timeout_time"]


def test_back_to_queued_takes_the_timeout_time_of_the_update(api: Api, clock: FileClock) -> None:
    job = api.made("failed", valid_for=100)
    clock.advance(200)
    later = clock.now() + 5
    assert (
        api.update(job["uid"], status="queued", timeout_time=later).json()["timeout_time"] == later
    )
    past = clock.now() - 1
    assert api.update(job["uid"], timeout_time=past).json()["timeout_time"] == past
    assert api.next().status == 204, "its time was over when it was set"


def test_a_requeued_job_takes_the_place_of_its_creation(api: Api) -> None:
    first, second = api.made(), api.made()
    assert api.next().json()["uid"] == first["uid"]
    api.update(first["uid"], status="queued")
    assert [api.next().json()["uid"] for _ in range(2)] == [first["uid"], second["uid"]]


@pytest.mark.parametrize("state", STATES)
def test_a_deleted_job_is_gone(api: Api, state: str) -> None:
    job = api.made(state)
    answer = api.delete(job["uid"])
    assert (answer.status, answer.body) == (204, b"")
    assert api.get(job["uid"]).status == 404
    assert api.delete(job["uid"]).status == 404
    assert api.update(job["uid"], status="queued").status == 404
    assert api.next().status == 204
    assert api.listed() == []
