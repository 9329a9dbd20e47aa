"""The documentation is true: routes, settings, problems, links, and README's own commands."""

import dataclasses
import re
import shlex
from enum import Enum
from pathlib import Path

import pytest
from falcon.inspect import inspect_routes

from jobengine.api import problems
from jobengine.config.document import read_settings
from jobengine.config.settings import Settings
from jobengine.wsgi import Service
from tests.harness import CHECKOUT
from tests.harness.client import HttpTransport
from tests.harness.server import Server

README = (CHECKOUT / "README.md").read_text()
PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CHANGELOG.md",
    *sorted((CHECKOUT / "docs").glob("*.md")),
]


def page(name: str) -> str:
    return (CHECKOUT / "docs" / name).read_text()


def test_every_route_and_method_is_documented(service: Service) -> None:
    text = page("api.md") + page("administration.md") + page("metrics.md")
    routes = inspect_routes(service.app)
    assert len(routes) >= 7
    for route in routes:
        for method in route.methods:
            if method.method not in ("OPTIONS", "HEAD") and not method.internal:
                assert f"`{method.method} {route.path}`" in text


def test_every_setting_is_documented_with_its_default() -> None:
    text = page("configuration.md")
    for field in dataclasses.fields(Settings):
        assert f"| `{field.name}` |" in text
        if field.name not in ("base_path", "queues", "services", "admins", "metrics", "hosts"):
            assert f"| `{field.name}` | {as_yaml(field.default)} |" in text


def as_yaml(value: object) -> str:
    if value is None:
        return "none"
    return str(value.value if isinstance(value, Enum) else value).replace("False", "false")


@pytest.mark.parametrize(
    "name",
    ["SECRET", "SECRET_FILE", "CONFIG_PATH", "DB_PATH", "DATABASE_URL", "GIN_MODE", "LOG_LEVEL"],
)
def test_every_variable_is_documented(name: str) -> None:
    assert f"| `{name}` |" in page("configuration.md")


def test_every_type_of_problem_is_documented() -> None:
    for kind, status, _title in problems._PROBLEMS.values():
        assert f"| {status} | `urn:jobengine:problem:{kind}` |" in page("api.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if not target.startswith("https://"):
            assert (path.parent / target).exists(), target


def test_the_tests_that_the_page_on_security_names_are_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", page("security.md")))
    sources = (path.read_text() for path in (CHECKOUT / "tests").glob("test_*.py"))
    there = {
        name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE)
    }
    assert len(named) > 30
    assert named - there == set()


def test_the_example_config_has_two_queues() -> None:
    queues = read_settings(CHECKOUT / "docs" / "example.yml").queues
    assert queues is not None
    assert len(queues) == 2


def curls(text: str) -> list[tuple[str, str, dict[str, str], bytes | None]]:
    """The curl commands in the text, as method, path, headers and body."""
    commands = []
    for line in re.findall(r"^curl (?:.*\\\n)*.*", text, re.MULTILINE):
        words = shlex.split(line.replace("\\\n", " "))[1:]
        method, path, headers, body = "GET", "", {}, None
        while words:
            word = words.pop(0)
            if word == "-X":
                method = words.pop(0)
            elif word == "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            elif word == "-d":
                body = words.pop(0).encode()
            elif word.startswith("localhost:6010/"):
                path = word.removeprefix("localhost:6010")
        commands.append((method, path, headers, body))
    return commands


def test_the_curl_lines_of_the_readme_create_claim_and_complete_a_job(tmp_path: Path) -> None:
    config = (CHECKOUT / "docs" / "example.yml").read_text()
    create, claim, complete = curls(README)
    with Server(tmp_path, config) as server:
        http = HttpTransport(server.port)
        assert http.send(*create).status == 201
        claimed = http.send(*claim)
        assert claimed.status == 200
        method, path, headers, body = complete
        done = http.send(method, path.replace("UID", claimed.json()["uid"]), headers, body)
        assert (done.status, done.json()["state"]) == (200, "complete")
        http.close()


def test_the_serve_command_of_the_readme_names_files_that_are_there() -> None:
    (command,) = re.findall(r"<!-- serve -->\n```sh\n(.*)\n```", README)
    words = shlex.split(command)
    assert (CHECKOUT / words[words.index("--config") + 1]).exists()
    assert "\n" not in command
