"""What happened to a job: each state that it came into, when and by whom, whoever moved it."""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobengine.engine.browsing import Browsing
from jobengine.engine.views import Detail
from jobengine.store.database import Use
from jobengine.store.migrate import downgrade
from jobengine.store.opening import open_database
from jobengine.store.tables.history import STEPS_MAX, History
from jobengine.store.tables.models import COMPLETE, INPROGRESS, QUEUED
from jobengine.store.tables.rows import Passed
from jobengine.wsgi import Service
from tests.conftest import WINDOW, launch_in, next_queue
from tests.harness.client import Api, WsgiTransport
from tests.harness.clock import FileClock
from tests.harness.server import SECRET

Told = tuple[str, int, str]
states = st.sampled_from(["queued", "inprogress", "complete", "failed"])
actions = st.one_of(
    st.tuples(st.just("claim"), st.sampled_from(["reader", "both"])),
    # Updates of one call, and so of one batch.
    st.tuples(
        st.just("update"),
        st.sampled_from(["reader", "writer", "both"]),
        st.lists(states | st.none(), min_size=1, max_size=3),
    ),
    st.tuples(st.just("wait"), st.sampled_from([1, 7, WINDOW, WINDOW + 1])),
)


@dataclass
class Life:
    """A job as the specification has it, and what happened to it."""

    api: Api
    clock: FileClock
    state: str = "queued"
    steps: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        job = self.api.as_service("writer").create(valid_for=100_000).json()
        self.uid, self.last_updated = job["uid"], job["created"]
        self.steps.append(("queued", job["created"], "writer"))

    def come(self, state: str, time: int, who: str) -> None:
        if state != self.state:
            self.state = state
            self.steps.append((state, time, who))

    def age(self) -> None:
        end = self.last_updated + WINDOW
        if self.state == "inprogress" and self.clock.now() > end:
            self.last_updated = end
            self.come("failed", end, "")

    def claim(self, who: str) -> None:
        self.age()
        answer = self.api.as_service(who).next()
        assert (answer.status == 200) == (self.state == "queued")
        if answer.status == 200:
            self.last_updated = answer.json()["last_updated"]
            self.come("inprogress", self.clock.now(), who)

    def update(self, who: str, changes: list[str | None]) -> None:
        self.age()
        sent: list[dict[str, Any]] = [
            {"uid": self.uid} | ({} if state is None else {"status": state}) for state in changes
        ]
        answers = self.api.as_service(who).send("POST", "/api/v1/jobs", sent).json()
        self.last_updated = answers[-1]["last_updated"]
        for state in filter(None, changes):
            self.come(state, self.clock.now(), who)

    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)


def detail(service: Service, clock: FileClock, life: Life) -> Detail:
    browsing = Browsing(service._reads, service.queues, clock)
    return browsing.job(UUID(life.uid).bytes)


def told(found: Detail) -> list[Told]:
    return [(step.state.value, step.time, step.who) for step in found.steps]


@given(lived=st.lists(actions, max_size=12))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_state_that_a_job_came_into_is_told(
    service: Service, clock: FileClock, lived: list[tuple[Any, ...]]
) -> None:
    life = Life(Api(WsgiTransport(service.app), next_queue()), clock)
    for action, *arguments in lived:
        getattr(life, action)(*arguments)
        life.age()
        if life.api.get(life.uid).status == 404:
            return  # kept for as long as it is to be
        found = detail(service, clock, life)
        assert told(found) == life.steps
        assert found.dropped == 0
        claims = [step.times for step in found.steps if step.state.value == "inprogress"]
        assert claims == list(range(1, len(claims) + 1))


@pytest.mark.parametrize("at_once", [1, 3])
def test_of_very_many_steps_the_last_are_kept(
    service: Service, clock: FileClock, at_once: int
) -> None:
    life = Life(Api(WsgiTransport(service.app), next_queue()), clock)
    for _ in range(36 // at_once):
        clock.advance(1)
        life.update("both", ["inprogress", "failed", "queued"] * at_once)
    life.claim("reader")
    found = detail(service, clock, life)
    assert found.dropped == 3 * 36 - STEPS_MAX
    assert told(found) == [life.steps[0], *life.steps[1 + found.dropped :]]
    assert found.steps[-1].times == 37


@pytest.mark.parametrize(
    ("code", "since", "claims", "steps"),
    [
        (QUEUED, None, None, []),
        (QUEUED, 100, 0, []),
        (QUEUED, 130, 1, [(INPROGRESS, 110, "w"), (QUEUED, 130, "x")]),
        (INPROGRESS, 110, 2, [(INPROGRESS, 110, "w")]),
        (COMPLETE, 130, 2, [(INPROGRESS, 110, "w"), (COMPLETE, 130, "x")]),
        (COMPLETE, None, None, [(COMPLETE, 140, "x")]),
    ],
)
def test_of_a_job_of_a_version_before_what_was_noted_is_told(
    code: int, since: int | None, claims: int | None, steps: list[Passed]
) -> None:
    past = History(1, code, 100, 140, since, "c", claims, 110, "w", "x", None).past()
    assert (past.steps, past.claims) == (steps, claims or 0)


def test_a_job_of_a_version_before_is_put_back_and_claimed_by_this_one(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    clock = FileClock(tmp_path / "now")
    launch = launch_in(tmp_path, **database)
    launch.config_path.write_text("version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n")
    older = Service(launch, clock)
    life = Life(Api(WsgiTransport(older.app), "q"), clock)
    life.claim("reader")
    older.stop()
    with closing(open_database(launch.database, SECRET.encode(), Use.ALONE)) as opened:
        downgrade(opened, "0010")
    newer = Service(launch, clock)
    life.api = Api(WsgiTransport(newer.app), "q")
    clock.advance(5)
    life.update("both", ["failed"])
    clock.advance(5)
    life.update("both", ["queued"])
    life.claim("writer")
    assert told(detail(newer, clock, life)) == life.steps
    newer.stop()
