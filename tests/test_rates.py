"""Limits on how often a service may call."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobengine.config.settings import Rate, Settings
from jobengine.domain.audit import Actor
from jobengine.engine.rates import SERVICES_MAX, Rates, Usage
from jobengine.wsgi import Service
from tests.conftest import launch_in
from tests.harness.client import Answer, Api, WsgiTransport
from tests.harness.server import Server
from tests.test_reload import hang_up

OPEN = "{read: ['*'], write: ['*']}"
CONFIG = f"""\
version: 1
rate_limit: 5/h
services:
  often: {{rate_limit: 8/h}}
  ever: {{rate_limit: none}}
  plain: {{}}
queues:
  q: {OPEN}
"""


@pytest.fixture(scope="module", params=["waitress", "granian"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One server for all these tests, each of which calls as services of its own."""
    folder = tmp_path_factory.mktemp("rates")
    with Server(folder, CONFIG, arguments=("--server", request.param)) as running:
        yield running


class Ticks:
    """What Rates reads the time from."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def rates(ticks: Ticks, rate: Rate | None, knows: Callable[[str], bool] = lambda _: True) -> Rates:
    return Rates(lambda: Settings(rate_limit=rate, services={"named": rate}), knows, ticks)


def used(counted: Rates, service: str = "one") -> Usage:
    usage = counted.use(service)
    assert usage is not None
    return usage


def test_calls_of_the_window_before_count_by_its_share() -> None:
    ticks = Ticks()
    counted = rates(ticks, Rate(8, 64))
    assert [used(counted).remaining for _ in range(8)] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert used(counted) == Usage(8, 64, 0, 64, exceeded=True)
    ticks.now += 63
    assert used(counted) == Usage(8, 64, 0, 2, exceeded=True)
    ticks.now += 2  # a second into the next window: 7 of the 8 count
    assert used(counted) == Usage(8, 64, 0, 8, exceeded=False)
    assert used(counted) == Usage(8, 64, 0, 8, exceeded=True)
    ticks.now += 7  # an eighth of it: it still counts by 7
    assert used(counted) == Usage(8, 64, 0, 1, exceeded=True)
    ticks.now += 1
    assert used(counted) == Usage(8, 64, 0, 8, exceeded=False)
    ticks.now += 2 * 64
    assert used(counted).remaining == 7


@pytest.mark.parametrize("later", [0, 1, 7, 31.5, 63, 65, 90.25, 127, 127.5])
def test_who_comes_again_when_told_to_is_served(later: float) -> None:
    ticks = Ticks()
    counted = rates(ticks, Rate(5, 64))
    while not used(counted).exceeded:
        ticks.now += 0.25
    ticks.now += later
    while not (last := used(counted)).exceeded:
        pass
    ticks.now += last.reset
    assert not used(counted).exceeded


def test_another_rate_begins_anew() -> None:
    ticks, rate = Ticks(), Rate(1, 10)
    counted = Rates(lambda: Settings(rate_limit=rate), lambda _: True, ticks)
    assert [used(counted).exceeded for _ in range(2)] == [False, True]
    rate = Rate(2, 10)
    assert [used(counted).exceeded for _ in range(3)] == [False, False, True]


def test_names_without_any_right_are_not_counted() -> None:
    counted = rates(Ticks(), Rate(1, 10), lambda name: name == "one")
    assert counted.use("invented") is None
    assert used(counted, "named").remaining == 0
    assert list(counted._windows) == ["named"]


def test_a_bounded_number_of_names_is_kept_those_that_called_last() -> None:
    counted = rates(Ticks(), Rate(2, 10))
    used(counted)
    for number in range(SERVICES_MAX - 1):
        used(counted, f"invented {number}")
    assert used(counted).remaining == 0
    used(counted, "one more")
    assert len(counted._windows) == SERVICES_MAX
    assert used(counted).exceeded


@pytest.mark.parametrize(
    ("config", "counts"),
    [
        ("queues: {q: {read: [one]}}", True),
        ("queues: {q: {write: [one]}}", True),
        ("queues: {q: {read: ['*']}}", True),
        ("queues: {q: {read: [other]}}", False),
        ("admins: [one]\nqueues: {}", True),
        ("metrics: [one]\nqueues: {}", True),
        ("authentication: keys\nqueues: {}", True),
        ("queues: {}", False),
    ],
)
def test_who_has_a_right_is_counted(tmp_path: Path, config: str, counts: bool) -> None:
    (tmp_path / "config.yml").write_text(f"version: 1\nrate_limit: 5/h\n{config}\n")
    service = Service(launch_in(tmp_path))
    key = "" if "keys" not in config else service.keys.create("one", None, Actor("me"))[1]
    headers = {"X-Name": "one", "X-Queue": "q", "Authorization": f"Bearer {key}"}
    answer = WsgiTransport(service.app).send("GET", "/api/v1/jobs/next", headers, None)
    service.stop()
    assert ("ratelimit" in answer.headers) is counts


def calls(api: Api, number: int) -> list[Answer]:
    return [api.next() for _ in range(number)]


@pytest.mark.parametrize(("service", "limit"), [("one", 5), ("often", 8), ("plain", 5)])
def test_each_service_has_its_own_limit(server: Server, service: str, limit: int) -> None:
    answers = calls(server.api("q", service), limit + 2)
    assert [answer.status for answer in answers] == [204] * limit + [429] * 2
    assert server.api("q", f"not {service}").next().status == 204
    for left, answer in enumerate(reversed(answers[:limit])):
        assert answer.headers["ratelimit-policy"] == f'"service";q={limit};w=3600'
        name, remaining, reset = answer.headers["ratelimit"].split(";")
        assert (name, remaining) == ('"service"', f"r={left}")
        assert 1 <= int(reset.removeprefix("t=")) <= 3600


def test_a_call_too_many_is_told_when_to_come_again_and_changes_nothing(server: Server) -> None:
    api = server.api("q", "too often")
    calls(api, 5)
    refused = api.create()
    assert refused.status == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:jobengine:problem:rate-exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 3600
    assert refused.headers["ratelimit"].startswith('"service";r=0;')
    assert server.api("q", "ever").listed() == []


def test_a_service_without_a_limit_has_none(server: Server) -> None:
    answers = calls(server.api("q", "ever"), 20)
    assert {answer.status for answer in answers} == {204}
    assert "ratelimit" not in answers[0].headers


def test_what_says_that_the_server_is_there_is_not_counted(server: Server) -> None:
    api = server.api("q", "healthy")
    for path in ("/livez", "/readyz", "/api/v1/test") * 3:
        assert api.send("GET", path).status == 200
    assert api.next().status == 204


def test_a_short_limit_passes(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG.replace("5/h", "1/s")) as server:
        api = server.api("q", "one")
        while api.next().status == 204:
            pass
        while api.next().status == 429:
            pass


def test_a_limit_changes_with_the_config(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG) as server:
        api = server.api("q", "one")
        assert calls(api, 6)[-1].status == 429
        hang_up(server, CONFIG.replace("5/h", "none"))
        server.wait_for("config applied")
        assert api.next().status == 204


@pytest.mark.parametrize(
    ("host", "mode"),
    [("0.0.0.0", "none"), ("0.0.0.0", "keys"), ("localhost", "none"), ("::1", "none")],  # noqa: S104
)
def test_an_open_address_without_keys_is_warned_of(tmp_path: Path, host: str, mode: str) -> None:
    config = f"version: 1\nauthentication: {mode}\nqueues: {{}}\n"
    with Server(tmp_path, config, arguments=("--host", host)) as server:
        server.stop()
        warned = [e for e in server.log if "may call as any service" in e["event"]]
        assert len(warned) == (1 if host == "0.0.0.0" and mode == "none" else 0)  # noqa: S104
        assert all(entry["level"] == "warning" for entry in warned)
