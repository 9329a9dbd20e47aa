"""Limits on how often a service may call."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.client import Answer, Api
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
