"""Random lives of jobs against a small model of what the specification says."""

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    rule,
    run_state_machine_as_test,
)

from jobengine.wsgi import Service
from tests.conftest import KEEP, WINDOW, next_queue
from tests.harness.client import Api, HttpTransport, Transport, WsgiTransport
from tests.harness.clock import FileClock
from tests.harness.server import Server

STATES = ["queued", "inprogress", "complete", "failed"]
# Around the boundaries of the window, the keep time and the valid_for below.
TIMES = [0, 1, 2, 5, 6, WINDOW - 1, WINDOW, WINDOW + 1, KEEP, KEEP + 1, WINDOW + KEEP + 1]


@dataclass(frozen=True)
class Model:
    """A job, as the model has it."""

    uid: str
    order: int
    content: dict[str, Any]
    created: int
    last_updated: int
    priority: int
    state: str
    timeout_time: int
    valid_for: int

    def at(self, now: int) -> "Model | None":
        job = self
        if job.state == "inprogress" and now > job.last_updated + WINDOW:
            job = replace(job, state="failed", last_updated=job.last_updated + WINDOW)
        last = {
            "queued": job.timeout_time,
            "inprogress": now,
            "complete": job.last_updated + KEEP,
            "failed": job.last_updated + KEEP,
        }[job.state]
        return job if now <= last else None

    def wire(self) -> dict[str, Any]:
        return {
            "content": self.content,
            "created": self.created,
            "last_updated": self.last_updated,
            "priority": self.priority,
            "state": self.state,
            "timeout_time": self.timeout_time,
            "uid": self.uid,
        }


class Lives(RuleBasedStateMachine):
    """Creates, claims, updates, deletes, lists, and lets time pass."""

    transport: Transport
    clock: FileClock
    queue: str
    jobs: Bundle[str] = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.api = Api(self.transport, self.queue)
        self.model: dict[str, Model] = {}
        self.created = 0

    def teardown(self) -> None:
        for job in self.api.listed():
            assert self.api.delete(job["uid"]).status == 204

    def alive(self) -> list[Model]:
        """The jobs that are left, in queue order."""
        now = self.clock.now()
        left = [job.at(now) for job in self.model.values()]
        return sorted((j for j in left if j is not None), key=lambda j: (-j.priority, j.order))

    def find(self, uid: str) -> Model | None:
        job = self.model.get(uid)
        return job.at(self.clock.now()) if job is not None else None

    @rule(target=jobs, priority=st.integers(1, 3), valid_for=st.sampled_from([1, 5, WINDOW, 10**6]))
    def create(self, priority: int, valid_for: int) -> str:
        self.created += 1
        content = {"n": self.created}
        answer = self.api.create(content, priority, valid_for)
        now = self.clock.now()
        uid = str(answer.json()["uid"])
        job = Model(
            uid, self.created, content, now, now, priority, "queued", now + valid_for, valid_for
        )
        assert (answer.status, answer.json()) == (201, job.wire())
        self.model[uid] = job
        return uid

    @rule()
    def claim(self) -> None:
        queued = [job for job in self.alive() if job.state == "queued"]
        answer = self.api.next()
        if not queued:
            assert answer.status == 204
            return
        job = queued[0]
        last_updated = max(self.clock.now(), job.created + 1, job.last_updated)
        job = replace(job, state="inprogress", last_updated=last_updated)
        assert (answer.status, answer.json()) == (200, job.wire())
        self.model[job.uid] = job

    @rule(
        uid=jobs,
        status=st.none() | st.sampled_from(STATES),
        priority=st.none() | st.integers(1, 3),
        timeout=st.none() | st.integers(-2, 10),
        content=st.none() | st.just({"new": True}),
    )
    def update(
        self,
        uid: str,
        status: str | None,
        priority: int | None,
        timeout: int | None,
        content: dict[str, Any] | None,
    ) -> None:
        now = self.clock.now()
        wanted = {
            "status": status,
            "priority": priority,
            "timeout_time": None if timeout is None else now + timeout,
            "content": content,
        }
        answer = self.api.update(uid, **{k: v for k, v in wanted.items() if v is not None})
        job = self.find(uid)
        if job is None:
            assert answer.status == 404
            return
        timeout_time = job.timeout_time if timeout is None else now + timeout
        requeued = status == "queued" and job.state != "queued"
        if requeued and timeout is None and timeout_time < now:
            timeout_time = now + job.valid_for
        job = replace(
            job,
            state=status or job.state,
            priority=priority or job.priority,
            timeout_time=timeout_time,
            content=content or job.content,
            last_updated=max(now, job.last_updated),
        )
        assert (answer.status, answer.json()) == (200, job.wire())
        self.model[uid] = job

    @rule(uid=consumes(jobs))
    def delete(self, uid: str) -> None:
        expected = 404 if self.find(uid) is None else 204
        assert self.api.delete(uid).status == expected
        self.model.pop(uid)

    @rule(uid=jobs)
    def get(self, uid: str) -> None:
        job, answer = self.find(uid), self.api.get(uid)
        assert answer.status == (404 if job is None else 200)
        if job is not None:
            assert answer.json() == job.wire()

    @rule(state=st.none() | st.sampled_from(STATES))
    def list_jobs(self, state: str | None) -> None:
        expected = [job.wire() for job in self.alive() if state in (None, job.state)]
        assert self.api.listed(state) == expected

    @rule(seconds=st.sampled_from(TIMES))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)


def run(transport: Transport, clock: FileClock, examples: int) -> None:
    machine = type(
        "LivesHere", (Lives,), {"transport": transport, "clock": clock, "queue": next_queue()}
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_lives_without_any_duty(service: Service, clock: FileClock) -> None:
    run(WsgiTransport(service.app), clock, 30)


def test_lives_under_granian(granian_server: Server, clock: FileClock) -> None:
    http = HttpTransport(granian_server.port)
    run(http, clock, 10)
    http.close()


def test_lives_beside_the_duties_of_a_server_process(server: Server, clock: FileClock) -> None:
    http = HttpTransport(server.port)
    run(http, clock, 15)
    http.close()
