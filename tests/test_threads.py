"""Threads that die: each that the service needs is missed by /readyz, and works again."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from jobengine.threads import ServiceThread
from jobengine.wsgi import Service
from tests.conftest import Databases, launch_in
from tests.harness.client import Api, WsgiTransport
from tests.harness.clock import FileClock
from tests.test_bad_input import assert_problem

CONFIG = "version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n"
_PATIENCE_SECONDS = 20


class Lethal(BaseException):
    """What nothing catches, but for those who mean to."""


class LethalClock(FileClock):
    """Ends the thread of a name as soon as that looks at it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.kills = ""

    def now(self) -> int:
        self._kill()
        return super().now()

    def steady(self) -> bool:
        self._kill()
        return super().steady()

    def _kill(self) -> None:
        if threading.current_thread().name == self.kills:
            raise Lethal


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


class Running:
    """A service on a clock that can end its threads, and what it logs."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        (folder / "config.yml").write_text(CONFIG)
        self.clock = LethalClock(folder / "clock")
        self.launch = launch_in(folder, **env)
        self.service = Service(self.launch, self.clock)
        self.service.start()
        self.api = Api(WsgiTransport(self.service.app), "q")
        until(self.ready)

    def ready(self) -> bool:
        return self.api.send("GET", "/readyz").status == 200

    def command(self) -> Any:
        """What a command is answered on the socket."""
        from jobengine.engine import control

        place = self.service._database.control
        assert place is not None
        return control.send(*place, b"nonsense")


@pytest.fixture
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    databases: Databases = request.getfixturevalue("databases")
    made = Running(tmp_path, databases.env(request.param))
    yield made
    made.clock.kills = ""
    made.service.stop()


def dies(
    running: Running, name: str, provoke: Callable[[], object], mend: Callable[[], object]
) -> None:
    with structlog.testing.capture_logs() as logged:
        provoke()
        until(lambda: not running.ready())
        problem = assert_problem(running.api.send("GET", "/readyz"), 503, "not-running")
        mend()
    assert problem["detail"] == f"the thread '{name}' died; it is started again"
    assert running.api.create().status == 201, "calls are served all the same"
    until(running.ready)
    assert {"a thread died, and is started again"} == {
        entry["event"] for entry in logged if entry.get("thread") == name
    }


@pytest.mark.parametrize("running", ["sqlcipher", "postgresql"], indirect=True)
def test_the_duties_go_on_after_their_thread_died(running: Running) -> None:
    running.api.create(valid_for=1)
    dies(
        running,
        "duties",
        lambda: setattr(running.clock, "kills", "duties"),
        lambda: setattr(running.clock, "kills", ""),
    )
    created = running.service.metrics.done
    running.clock.advance(2)
    until(lambda: created()["q"].expired == 1)


@pytest.mark.parametrize("running", ["sqlcipher"], indirect=True)
def test_a_config_is_applied_after_the_thread_that_watches_it_died(running: Running) -> None:
    def provoke() -> None:
        running.clock.kills = "config"
        running.service.reload()

    dies(running, "config", provoke, lambda: setattr(running.clock, "kills", ""))
    running.launch.config_path.write_text(f"{CONFIG}  r: {{read: ['*'], write: ['*']}}\n")
    running.service.reload()
    until(lambda: Api(WsgiTransport(running.service.app), "r").create().status == 201)


@pytest.mark.parametrize("running", ["sqlcipher"], indirect=True)
def test_commands_are_heard_after_their_thread_died(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = running.command()

    def die(*_: object) -> None:
        raise Lethal

    def provoke() -> None:
        monkeypatch.setattr(running.service._control, "_handle", die)
        with pytest.raises((EOFError, OSError)):
            running.command()

    dies(running, "control", provoke, monkeypatch.undo)
    assert running.command() == whole


@pytest.mark.parametrize("running", ["postgresql"], indirect=True)
def test_the_link_is_up_again_after_its_thread_died(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Lethal

    database: Any = running.service._database
    link, leads = database._link, database.leads
    until(leads)
    dies(
        running,
        "link",
        lambda: monkeypatch.setattr(link._peers, "jobs_came", die),
        monkeypatch.undo,
    )
    until(leads)


def test_a_thread_that_was_asked_to_end_is_not_missed() -> None:
    ended = threading.Event()

    def wait() -> None:
        ended.wait()

    thread = ServiceThread("one", wait)
    assert thread.works
    thread.start()
    assert thread.works
    ended.set()
    thread.stop()
    assert thread.works


def test_a_stop_does_not_wait_for_the_next_start_of_a_thread_that_died() -> None:
    deaths = 0

    def die() -> None:
        nonlocal deaths
        deaths += 1
        raise Lethal

    thread = ServiceThread("one", die)
    with structlog.testing.capture_logs() as logged:
        thread.start()
        until(lambda: not thread.works)
        thread.stop()
    assert deaths == 1
    assert [entry["log_level"] for entry in logged] == ["error"]
