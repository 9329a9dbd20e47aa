"""The description of the API: true of the server, and fit for the tools that read it."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from jobengine.api.description import is_page
from jobengine.api.description.document import OPERATIONS, build
from jobengine.api.description.fields import UID
from jobengine.cli.administer import administer
from jobengine.config.environment import read_environment
from jobengine.domain.audit import Actor
from jobengine.engine.administration import CreateKey
from jobengine.wsgi import Service
from tests.harness import CHECKOUT
from tests.harness.client import Answer
from tests.harness.fuzz import routes_of
from tests.harness.server import Server

CONFIG = """
version: 1
authentication: {mode}
admins: [ops]
metrics: [prometheus]
rate_limit: 100000/s
services:
  often: {{rate_limit: 1/h}}
queues:
  emails: {{read: [mailer, ops], write: [shop, ops]}}
  full: {{read: [], write: [shop], max_jobs: 1}}
"""
MORE = os.environ.get("SCHEMATHESIS_EXAMPLES")
DOCUMENT = build(keys=False)
PATH = "/api/v1/openapi.json"
GOOD = b'{"content": {}, "valid_for": 600, "priority": 1}'
# Names that the server knows, and no call that waits for a job.
SCHEMATHESIS = """
hooks = "tests.harness.schemathesis_hooks"
warnings = false
[parameters]
"header.X-Name" = "ops"
"header.X-Queue" = "emails"
"header.Prefer" = "wait=0"
"query.wait" = 0
"query.cursor" = "UAAAAAAAAAAHAAAAAAAAAAk"
"""
# What HTTP itself adds to an answer.
OF_HTTP = {"content-type", "content-length", "date", "connection"}


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the services and queues of the examples, one full, one at its limit."""
    with Server(tmp_path_factory.mktemp("described"), CONFIG.format(mode="none")) as running:
        assert running.api("full", "shop").create().status == 201
        assert running.api("emails", "often").all().status == 403
        yield running


class Example(NamedTuple):
    """A request of the description, with a body or without."""

    method: str
    path: str
    operation: dict[str, Any]
    body: Any = None


def request_examples() -> Iterator[Any]:
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            bodies = {"": {"value": None}}
            if "requestBody" in operation:
                bodies = operation["requestBody"]["content"]["application/json"]["examples"]
            for name, example in bodies.items():
                made = Example(method.upper(), path, operation, example["value"])
                yield pytest.param(made, id=f"{operation['operationId']} {name}".strip())


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """A part of the document, or what it refers to."""
    for name in part.get("$ref", "").split("/")[1:]:
        part = DOCUMENT if part.get("$ref") else part
        part = part[name]
    return part


def fits(value: Any, schema: dict[str, Any]) -> bool:
    whole = {**schema, "components": DOCUMENT["components"]}
    return bool(OAS31Validator(whole).is_valid(value))


def test_every_route_and_method_is_described_and_nothing_else(service: Service) -> None:
    routes = {
        (method, path)
        for path, methods in routes_of(service.app)
        for method in methods
        if not is_page(resource_at(service, path))
    }
    described = {
        (method.upper(), path)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
    }
    assert described == routes
    assert len(routes) > 20
    assert "/docs" in {path for path, _ in routes_of(service.app)}


def resource_at(service: Service, path: str) -> object:
    found = service.app._router.find(path)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("keys", [False, True])
def test_the_document_is_valid_openapi(keys: bool) -> None:
    validate(build(keys=keys))


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation.id for operation in OPERATIONS]
    assert len(set(names)) == len(names)


def test_every_answer_has_examples_that_fit_its_schema() -> None:
    seen = 0
    for operations in DOCUMENT["paths"].values():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                contents = resolved(answer).get("content", {})
                assert bool(contents) == (method != "head" and status != "204")
                for content in contents.values():
                    for name, example in content["examples"].items():
                        assert fits(example["value"], content["schema"]), (operation, status, name)
                        seen += 1
    assert seen > 200


@pytest.mark.parametrize("example", list(request_examples()))
def test_every_example_of_a_request_comes_through_as_described(
    own_server: Server, example: Example
) -> None:
    answer = sent(own_server, example)
    assert 200 <= answer.status < 300, answer
    described = example.operation["responses"][str(answer.status)]
    names = {name.lower() for name in described["headers"]}
    assert set(answer.headers) - OF_HTTP <= names
    if "content" in described:
        ((media_type, content),) = described["content"].items()
        json_ = media_type == "application/json"
        assert fits(answer.json() if json_ else answer.body.decode(), content["schema"])
    else:
        assert answer.body == b""


def sent(server: Server, example: Example) -> Answer:
    """The answer to the request, for a new job and a queue that is there."""
    uid = server.api("emails", "shop").create().json()["uid"]
    rights: dict[str, list[str]] = {"read": [], "write": ["shop"]}
    made = server.api(service="ops").send("PUT", "/api/v1/queues/faxes", rights)
    assert made.status in (200, 201)
    given: dict[str, dict[str, Any]] = {"header": {}, "query": {}, "path": {}}
    for parameter in example.operation["parameters"]:
        given[parameter["in"]][parameter["name"]] = parameter["example"]
    if "uid" in given["path"]:
        given["path"]["uid"] = uid
    path = example.path.format(**given["path"])
    query = f"?{urlencode(given['query'])}" if given["query"] else ""
    body = None if example.body is None else json.dumps(example.body).encode()
    return server.http().send(example.method, path + query, given["header"], body)


REFUSED = [
    ("put", "/api/v1/jobs/create", {"X-Name": "mailer"}, GOOD, "forbidden"),
    ("put", "/api/v1/jobs/create", {"X-Name": "shop"}, b"{}", "invalid-input"),
    ("put", "/api/v1/jobs/create", {"X-Name": "shop", "X-Queue": "no"}, GOOD, "unknown-queue"),
    ("put", "/api/v1/jobs/create", {"X-Name": "shop", "X-Queue": "full"}, GOOD, "queue-full"),
    ("get", "/api/v1/jobs/{uid}", {"X-Name": "mailer"}, b"", "unknown-job"),
    ("get", "/api/v1/jobs", {"X-Name": "often"}, b"", "rate-exceeded"),
    ("put", "/api/v1/queues/{name}", {"X-Name": "ops"}, b"{}", "conflict"),
]


@pytest.mark.parametrize(("method", "path", "headers", "body", "kind"), REFUSED)
def test_what_a_call_is_refused_with_is_described(
    own_server: Server, method: str, path: str, headers: dict[str, str], body: bytes, kind: str
) -> None:
    place = path.format(uid=UID, name="emails")
    sent = {"X-Queue": "emails", **headers}
    answer = own_server.http().send(method.upper(), place, sent, body)
    described = DOCUMENT["paths"][path][method]["responses"][str(answer.status)]
    assert set(answer.headers) - OF_HTTP <= {name.lower() for name in described["headers"]}
    content = described["content"][answer.headers["content-type"]]
    assert fits(answer.json(), content["schema"])
    assert answer.json()["type"] == f"urn:jobengine:problem:{kind}"
    assert kind in content["examples"]


def test_without_keys_the_description_is_open_and_asks_for_names(own_server: Server) -> None:
    answer = own_server.http().send("GET", PATH, {}, None)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    create = document["paths"]["/api/v1/jobs/create"]["put"]
    assert required(create) == {"X-Name", "X-Queue"}
    assert create["security"] == []
    assert "401" not in create["responses"]


def test_with_keys_the_description_needs_one_and_says_so(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG.format(mode="keys")) as server:
        assert server.http().send("GET", PATH, {"X-Name": "shop"}, None).status == 401
        request = CreateKey(Actor("me"), "shop", None)
        (key,) = administer(read_environment(server.env), request, None)
        bearer = {"Authorization": f"Bearer {key.text}"}
        answer = server.http().send("GET", PATH, bearer, None)
        assert answer.status == 200
        create = answer.json()["paths"]["/api/v1/jobs/create"]["put"]
        assert required(create) == {"X-Queue"}
        assert create["security"] == [{"key": []}]
        assert "WWW-Authenticate" in create["responses"]["401"]["headers"]
        for path in ("/docs", "/docs/style.css"):
            assert server.http().send("GET", path, {}, None).status == 200


def required(operation: dict[str, Any]) -> set[str]:
    return {parameter["name"] for parameter in operation["parameters"] if parameter["required"]}


class Links(HTMLParser):
    """What a page has: its tags, where it leads, and what it is addressed by."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.targets: set[str] = set()
        self.ids: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("href", "src"):
                self.targets.add(value or "")
            if name == "id":
                self.ids.append(value or "")


def test_the_page_shows_every_call_and_takes_nothing_from_elsewhere(own_server: Server) -> None:
    answer = own_server.http().send("GET", "/docs", {}, None)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self';")
    page = Links(answer.body.decode())
    assert not page.tags & {"script", "style", "img", "iframe", "form"}
    assert not {name for name in page.attributes if name.startswith("on") or name == "style"}
    outside = {target for target in page.targets if not target.startswith("#")}
    assert outside == {"docs/style.css", "api/v1/openapi.json"}
    for target in outside:
        assert own_server.http().send("GET", f"/{target}", {}, None).status == 200
    assert len(set(page.ids)) == len(page.ids)
    assert {target[1:] for target in page.targets - outside} <= set(page.ids)
    assert {operation.id for operation in OPERATIONS} <= set(page.ids)


@pytest.mark.parametrize(
    ("phases", "tags"),
    [
        ("coverage", ["Jobs"]),
        ("coverage", ["Queues", "Audit trail", "Server"]),
        ("fuzzing,stateful", ["Jobs", "Queues", "Audit trail", "Server"]),
    ],
    ids=["bounds of jobs", "bounds of the rest", "all at random"],
)
def test_the_server_does_what_the_description_says_whatever_it_is_sent(
    tmp_path: Path, phases: str, tags: list[str]
) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)
    with Server(tmp_path / "server", CONFIG.format(mode="none")) as server:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", "openapi.json"),
                *("--url", f"http://127.0.0.1:{server.port}", "--phases", phases),
                *("--max-examples", MORE or "3", "--continue-on-failure"),
                *("--suppress-health-check", "all", *([] if MORE else ["--seed", "1"])),
                *(f"--include-tag={tag}" for tag in tags),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        calls = [
            operation
            for operations in DOCUMENT["paths"].values()
            for operation in operations.values()
            if set(operation["tags"]) & set(tags)
        ]
        assert f"Tested: {len(calls)}" in done.stdout
        assert "unexpected error" not in server.stderr


def test_a_generated_client_creates_claims_and_completes_a_job(
    own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = own_server.http().send("GET", PATH, {}, None).body
    (tmp_path / "openapi.json").write_bytes(document)
    (tmp_path / "config.yml").write_text("post_hooks: []")
    subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"),
            *("--path", "openapi.json", "--meta", "none", "--output-path", "jobengine_client"),
            *("--config", "config.yml"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def part(name: str) -> Any:
        return importlib.import_module(f"jobengine_client.{name}")

    models, queue = part("models"), {"x_queue": "emails"}
    with part("client").Client(base_url=f"http://127.0.0.1:{own_server.port}") as client:
        content = models.NewJobBodyContent.from_dict({"to": "ada"})
        body = models.NewJobBody(content=content, valid_for=600, priority=100)
        created = part("api.jobs.create_job").sync(client=client, body=body, x_name="shop", **queue)
        claimed = part("api.jobs.claim_next_job").sync(client=client, x_name="mailer", **queue)
        assert claimed.uid == created.uid
        assert claimed.content.to_dict() == {"to": "ada"}
        completed = part("api.jobs.update_job").sync(
            claimed.uid,
            client=client,
            body=models.ChangesBody(status=models.ChangesBodyStatus.COMPLETE),
            x_name="mailer",
            **queue,
        )
        assert completed.state == models.State.COMPLETE
        refused = part("api.jobs.get_job").sync(
            claimed.uid, client=client, x_name="stranger", **queue
        )
        assert refused.type_ == "urn:jobengine:problem:forbidden"
