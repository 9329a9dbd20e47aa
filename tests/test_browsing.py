"""Jobs looked through by filters: any mix of them pages like the list, filtered and sorted."""

from itertools import cycle, pairwise
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from jobengine.domain.audit import Actor
from jobengine.domain.errors import StoreFailed
from jobengine.domain.job import Changes, State
from jobengine.engine.browsing import Browsing
from jobengine.engine.desk import Action, Chosen, Deed, Desk
from jobengine.engine.views import Filter, Order, Page
from jobengine.store import browse
from jobengine.wsgi import Service
from tests.conftest import next_queue
from tests.harness.client import Api, WsgiTransport
from tests.harness.clock import FileClock

priorities = st.sampled_from([1, 2, 49, 50, 51, 99, 100])
ages = st.none() | st.integers(0, 40)
drafts = st.tuples(
    priorities,
    st.sampled_from(["", *(state.value for state in State)]),  # nothing for one that expires
    st.integers(0, 5),  # seconds before the next
)


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    lowest, highest = sorted(draw(st.tuples(priorities, priorities)))
    state = draw(st.none() | st.sampled_from(State))
    return Filter(state, highest, lowest, draw(ages), draw(ages))


@pytest.fixture(scope="module")
def browsing(service: Service, clock: FileClock) -> Browsing:
    """What looks through the jobs of the service."""
    return Browsing(service._reads, service.queues, clock)


def made(service: Service, clock: FileClock, jobs: list[tuple[int, str, int]]) -> Api:
    """A queue with such jobs, in the order of their creation."""
    api = Api(WsgiTransport(service.app), next_queue())
    for priority, state, seconds in jobs:
        api.made(state or "queued", priority=priority, valid_for=100 if state else 1)
        clock.advance(seconds)
    clock.advance(2)
    return api


def wanted(api: Api, chosen: Filter, order: Order, now: int) -> list[str]:
    """What the list has of it."""
    jobs = api.listed(None if chosen.state is None else chosen.state.value)
    if order is not Order.QUEUE:
        jobs.sort(key=lambda job: job["uid"], reverse=order is Order.NEWEST)
    return [job["uid"] for job in jobs if lets_through(chosen, job, now - job["created"])]


def lets_through(chosen: Filter, job: dict[str, Any], age: int) -> bool:
    old = chosen.older_than is None or age >= chosen.older_than
    new = chosen.newer_than is None or age <= chosen.newer_than
    return old and new and chosen.lowest <= job["priority"] <= chosen.highest


@given(
    jobs=st.lists(drafts, max_size=20),
    chosen=filters(),
    order=st.sampled_from(Order),
    limit=st.integers(1, 8),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_filter_pages_like_the_list_filtered_and_sorted(
    service: Service,
    clock: FileClock,
    browsing: Browsing,
    jobs: list[tuple[int, str, int]],
    chosen: Filter,
    order: Order,
    limit: int,
) -> None:
    api = made(service, clock, jobs)
    pages: list[Page] = []
    while not pages or pages[-1].after is not None:
        after = pages[-1].after if pages else None
        pages.append(browsing.page(api.queue, chosen, order, after, limit))
    assert all(len(page.jobs) == limit for page, _ in pairwise(pages))
    found = [job.uid for page in pages for job in page.jobs]
    assert found == wanted(api, chosen, order, clock.now())


@given(jobs=st.lists(drafts, max_size=20), chosen=filters(), order=st.sampled_from(Order))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_search_for_what_every_content_has_finds_what_the_filter_lets_through(
    service: Service,
    clock: FileClock,
    browsing: Browsing,
    jobs: list[tuple[int, str, int]],
    chosen: Filter,
    order: Order,
) -> None:
    api = made(service, clock, jobs)
    found, after = list[str](), None
    while True:
        page = browsing.search(api.queue, chosen, "{}", order, after, 3)
        found += [job.uid for job in page.jobs]
        after = page.after
        if after is None:
            break
    assert found == wanted(api, chosen, order, clock.now())


def test_a_job_and_its_history_are_of_one_instant(
    service: Service, clock: FileClock, browsing: Browsing
) -> None:
    """Whoever changes it while it is read."""
    api = made(service, clock, [])
    uid = api.made("inprogress")["uid"]
    states = cycle(["complete", "failed"])

    def change(*_: object) -> None:
        assert api.update(uid, status=next(states)).status == 200

    readers = service._database.readers
    event.listen(readers, "after_cursor_execute", change)
    detail = browsing.job(UUID(uid).bytes)
    event.remove(readers, "after_cursor_execute", change)
    assert detail.steps[-1].state is detail.job.state
    assert {step.who for step in detail.steps} == {"both"}, "no window has failed it"


@pytest.fixture
def desk(
    service: Service, clock: FileClock, browsing: Browsing, monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """What acts on all jobs of a filter, four at a time."""
    monkeypatch.setattr("jobengine.engine.desk.STEP_MAX", 4)
    monkeypatch.setattr("jobengine.engine.desk._CHUNK", 2)
    return Desk(service._writer, browsing, service.queues, service._database, clock)


def test_another_priority_is_given_to_all_step_by_step(
    service: Service, clock: FileClock, desk: Desk
) -> None:
    api = made(service, clock, [(50 + n % 2 * 40, "queued", 0) for n in range(18)])
    deed = Deed(Action.PRIORITISE, 90)
    done = [desk.act_on_all(Actor("ann"), api.queue, Filter(), deed) for _ in range(4)]
    assert [(each.jobs, each.more) for each in done] == [
        (4, True),
        (4, True),
        (1, False),
        (0, False),
    ]
    assert {job["priority"] for job in api.listed()} == {90}


@pytest.mark.parametrize(
    ("action", "state", "all_"),
    [
        (Action.RETRY, "queued", 3),
        (Action.COMPLETE, "complete", 3),
        (Action.FAIL, "failed", 3),
        (Action.DELETE, "queued", 9),
    ],
)
def test_jobs_that_an_action_leaves_as_they_are_are_not_looked_through(
    service: Service, clock: FileClock, browsing: Browsing, action: Action, state: str, all_: int
) -> None:
    other = "failed" if state != "failed" else "complete"
    api = made(service, clock, [(50, state, 0)] * 6 + [(50, other, 0)] * 3)
    page = browsing.page(api.queue, Deed(action).among(Filter()))
    assert (len(page.jobs), page.looked_at) == (all_, all_)
    same = Deed(action).among(Filter(State(state)))
    assert len(browsing.page(api.queue, same).jobs) == (6 if action is Action.DELETE else 0)


def test_a_fresh_job_is_not_old_wherever_a_clock_that_was_set_back_has_put_it(
    service: Service,
    clock: FileClock,
    browsing: Browsing,
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = made(service, clock, [(50, "queued", 0)] * 3)
    # Ids do not rise with the time of creation then, and a search among them ends anywhere.
    monkeypatch.setattr(browse, "first_created_at", lambda *_: browse.LAST_ID)
    older = Filter(older_than=86400)
    assert browsing.page(api.queue, older).jobs == []
    assert desk.act_on_all(Actor("ann"), api.queue, older, Deed(Action.DELETE)).jobs == 0
    assert len(api.listed()) == 3


def test_what_cannot_be_noted_in_the_trail_is_not_done(
    service: Service, clock: FileClock, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = made(service, clock, [(50, "queued", 0)] * 3)
    before = api.listed()

    def full(*_: object) -> None:
        raise OSError("on purpose")

    ann, seen = Actor("ann"), Chosen(UUID(before[0]["uid"]).bytes, State.QUEUED)
    with monkeypatch.context() as patch:
        patch.setattr("jobengine.engine.desk.record", full)
        with pytest.raises(StoreFailed, match="nothing was changed"):
            desk.act(ann, api.queue, [seen], Deed(Action.DELETE))
        with pytest.raises(StoreFailed, match="nothing was changed"):
            desk.act_on_all(ann, api.queue, Filter(), Deed(Action.FAIL))
        priority = Changes(priority=77)
        with pytest.raises(StoreFailed, match="nothing was changed"):
            desk.change(ann, api.queue, msgspec.structs.replace(seen, edition=""), priority)
    assert api.listed() == before
    assert desk.act(ann, api.queue, [seen], Deed(Action.DELETE)).jobs == 1
