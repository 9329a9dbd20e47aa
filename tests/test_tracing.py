"""Tracing: what a collector gets of calls, and what it costs those who ask for none."""

import re
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobengine.config.environment import read_environment
from jobengine.domain.errors import ConfigRefused
from jobengine.tracing import LINKS_MAX
from tests.conftest import Databases, env_in
from tests.harness import command
from tests.harness.browser import Browser
from tests.harness.client import Answer, Api
from tests.harness.clock import FileClock
from tests.harness.collector import Collector, Link, Received
from tests.harness.postgresql import free_port
from tests.harness.server import Server

OPEN = "{read: ['*'], write: ['*']}"
CONFIG = f"version: 1\nqueues:\n  q: {OPEN}\n  closed: {{read: [a], write: [a]}}\n"
CREATE, NEXT, ONE, MANY = (
    "PUT /api/v1/jobs/create",
    "GET /api/v1/jobs/next",
    "POST /api/v1/jobs/{uid}",
    "POST /api/v1/jobs",
)
SERVER_KIND = 2


def traceparent() -> str:
    """One that no other test sends, nor one of another run: a collector's port may be reused."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def link(sent: str) -> Link:
    _, trace_id, span_id, _ = sent.split("-")
    return Link(trace_id, span_id)


def create(api: Api, sent: str | None = None, jobs: int = 0) -> Answer:
    """Creates a job, or an array of them, in the trace of a traceparent."""
    draft = {"content": {"card": "4929-secret"}, "valid_for": 600, "priority": 50}
    headers = {} if sent is None else {"traceparent": sent}
    return api.send("PUT", "/api/v1/jobs/create", [draft] * jobs if jobs else draft, headers)


def messaging(span: Received) -> dict[str, Any]:
    return {
        key.removeprefix("messaging."): value
        for key, value in span.attributes.items()
        if key.startswith("messaging.")
    }


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Collector]]:
    """A server that exports at once, and its collector."""
    folder = tmp_path_factory.mktemp("traced")
    with Collector() as collector:
        env = collector.env | {"OTEL_BSP_SCHEDULE_DELAY": "20"}
        with Server(folder, CONFIG, **env) as server:
            yield server, collector


@pytest.mark.parametrize(
    ("kind", "http"),
    [("sqlcipher", "waitress"), ("sqlcipher", "granian"), ("postgresql", "waitress")],
)
def test_a_claim_is_linked_to_the_trace_that_its_job_was_created_in(
    tmp_path: Path, databases: Databases, kind: str, http: str
) -> None:
    sent, arguments = traceparent(), ("--server", http)
    with Collector() as collector:
        env = collector.env | databases.env(kind)
        with Server(tmp_path, CONFIG, arguments=arguments, **env) as server:
            uid = create(server.api(), sent).json()["uid"]
            assert server.api().next().json()["uid"] == uid
            assert server.api().update(uid, status="complete").status == 200
        (made,), (claimed,), (done,) = map(collector.named, (CREATE, NEXT, ONE))
    assert Link(made.trace_id, made.parent_id) == link(sent)
    assert claimed.links == [link(sent)]
    assert claimed.trace_id != made.trace_id
    one = {"system": "jobengine", "destination.name": "q", "message.id": uid}
    assert messaging(made) == one | {"operation.name": "create", "operation.type": "send"}
    assert messaging(claimed) == one | {"operation.name": "claim", "operation.type": "receive"}
    assert messaging(done) == one | {"operation.name": "update", "operation.type": "settle"}
    assert {span.kind for span in collector.spans} == {SERVER_KIND}
    assert made.resource["service.name"] == "jobengine"


@pytest.mark.parametrize("http", ["waitress", "granian"])
def test_the_spans_of_calls_at_once_do_not_mix(tmp_path: Path, http: str) -> None:
    created: dict[str, str] = {}
    claimed: list[str] = []

    def work(server: Server) -> None:
        api = server.api()
        for _ in range(15):
            sent = traceparent()
            created[create(api, sent).json()["uid"]] = sent
            claimed.append(api.next().json()["uid"])

    with Collector() as collector:
        with Server(tmp_path, CONFIG, arguments=("--server", http), **collector.env) as server:
            threads = [threading.Thread(target=work, args=(server,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        made = collector.named(CREATE)
        next_ = collector.named(NEXT)
    assert len(created) == 120
    by_uid = {span.attributes["messaging.message.id"]: span for span in made}
    parents = {uid: Link(span.trace_id, span.parent_id) for uid, span in by_uid.items()}
    assert parents == {uid: link(sent) for uid, sent in created.items()}
    links = {span.attributes["messaging.message.id"]: span.links for span in next_}
    assert links == {uid: [link(created[uid])] for uid in claimed}
    assert len({span.trace_id for span in next_}) == len(next_) == 120
    assert {span.parent_id for span in next_} == {""}


def test_many_jobs_are_counted_and_each_trace_is_linked_once(tmp_path: Path) -> None:
    with Collector() as collector:
        with Server(tmp_path, CONFIG, **collector.env) as server:
            api, together = server.api(), traceparent()
            assert create(api, together, jobs=10).status == 201
            first = api.send("GET", "/api/v1/jobs/next?count=10").json()
            for _ in range(LINKS_MAX + 2):
                create(api, traceparent())
            others = api.send("GET", f"/api/v1/jobs/next?count={LINKS_MAX + 2}").json()
            create(api, together)
            updates = [{"uid": job["uid"], "status": "complete"} for job in first]
            assert api.send("POST", "/api/v1/jobs?next=5", updates).status == 200
        claim_of_first, claim_of_others = collector.named(NEXT)
        (updated,) = collector.named(MANY)
        made = collector.named(CREATE)[0]
    assert messaging(made)["batch.message_count"] == len(first) == 10
    assert "message.id" not in messaging(made)
    assert claim_of_first.links == [link(together)]
    assert messaging(claim_of_others)["batch.message_count"] == len(others) == LINKS_MAX + 2
    assert len(claim_of_others.links) == LINKS_MAX
    assert messaging(updated)["batch.message_count"] == 10
    assert updated.links == [link(together)]


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "",
        "nonsense",
        f"00-{0:032x}-{7:016x}-01",
        f"00-{7:032x}-{0:016x}-01",
        f"01-{7:032x}-{7:016x}-01",
        f"00-{7:032x}-{7:016x}-01-more",
        f"00-{'A' * 32}-{7:016x}-01",
    ],
)
def test_what_is_no_traceparent_is_not_kept(traced: tuple[Server, Collector], sent: str) -> None:
    server, collector = traced
    uid = create(server.api(), sent).json()["uid"]
    assert server.api().next().json()["uid"] == uid
    assert span_of(collector, NEXT, uid).links == []


def test_an_unsampled_creator_is_linked_to_as_well(traced: tuple[Server, Collector]) -> None:
    server, collector = traced
    sent = traceparent()[:-1] + "0"
    uid = create(server.api(), sent).json()["uid"]
    assert server.api().next().json()["uid"] == uid
    assert span_of(collector, NEXT, uid).links == [link(sent)]
    assert [s for s in collector.named(CREATE) if s.trace_id == link(sent).trace_id] == []


def span_of(collector: Collector, name: str, uid: str) -> Received:
    """Waits for the span of a call on one job."""
    return collector.wait_for(
        lambda span: span.name == name and span.attributes.get("messaging.message.id") == uid
    )


@pytest.mark.parametrize(
    ("method", "path", "headers", "route", "status"),
    [
        ("POST", "/api/v1/jobs/00000000-0000-7000-8000-000000000000", {}, ONE, 404),
        ("GET", "/api/v1/jobs/next", {"X-Queue": "closed"}, NEXT, 403),
        ("GET", "/api/v1/jobs/next", {"X-Queue": ""}, NEXT, 400),
        ("GET", "/api/v1/nowhere", {}, "GET", 404),
        ("GET", "/system", {}, "GET /system", 200),
        ("PATCH", "/api/v1/jobs", {}, "PATCH /api/v1/jobs", 405),
    ],
)
def test_a_span_has_the_status_that_was_answered_and_is_no_error(
    traced: tuple[Server, Collector],
    method: str,
    path: str,
    headers: dict[str, str],
    route: str,
    status: int,
) -> None:
    server, collector = traced
    sent = traceparent()
    body = b"{}" if method == "POST" else None
    assert server.api().send(method, path, body, headers | {"traceparent": sent}).status == status
    span = collector.wait_for(lambda span: span.trace_id == link(sent).trace_id)
    assert span.attributes["http.response.status_code"] == status
    assert span.name == route
    assert not span.error


def test_no_content_no_key_and_no_search_is_exported(tmp_path: Path) -> None:
    everything: dict[str, Any] = {
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": ".*",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE": ".*",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS": "x-mine",
        "OTEL_PYTHON_FALCON_TRACED_REQUEST_ATTRS": "media,query_string,headers",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http/dup",
    }
    with Collector() as collector:
        with Server(tmp_path, CONFIG, **collector.env, **everything) as server:
            api = server.api()
            uid = create(api, traceparent()).json()["uid"]
            api.next()
            assert api.update(uid, content={"card": "4929-secret"}).status == 200
            key = {"Authorization": "Bearer je_secret", "X-Mine": "my-secret"}
            assert api.send("GET", "/api/v1/jobs", headers=key).status == 200
            browser = Browser(server.port, cookies={"session": "cookie-secret"})
            assert browser.get("/jobs?queue=q&contains=4929-secret").status == 200
            assert browser.get("/login?next=%2Fjobs%3Fcontains%3D4929-secret").status == 200
        exported = b"".join(collector.bodies)
    assert b"secret" not in exported
    assert len(collector.spans) == 6
    listed = next(s for s in collector.spans if s.name == "GET /api/v1/jobs")
    assert listed.attributes["http.request.header.authorization"].values[0].string_value == (
        "[REDACTED]"
    )


@pytest.mark.parametrize(
    ("off", "imported"),
    [
        ({}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_opentelemetry_is_imported_only_where_traces_are_asked_for(
    tmp_path: Path, off: dict[str, str], imported: bool
) -> None:
    with Collector() as collector:
        env = collector.env | off | {"PYTHONPROFILEIMPORTTIME": "1"}
        server = Server(tmp_path, CONFIG, **env)
        server.executed = True
        with server:
            assert create(server.api(), traceparent()).status == 201
        assert "jobengine.wsgi" in server.stderr
        found = re.search(r"\| +opentelemetry\b", server.stderr)
        assert (found is not None) is imported
        assert len(collector.spans) == imported


def test_a_trace_is_kept_only_while_traces_are_asked_for(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG) as server:
        uid = create(server.api(), traceparent()).json()["uid"]
    with Collector() as collector:
        with Server(tmp_path, CONFIG, **collector.env) as server:
            assert server.api().next().json()["uid"] == uid
        assert [span.links for span in collector.named(NEXT)] == [[]]


def test_without_the_extra_the_server_says_so_and_serves(tmp_path: Path) -> None:
    package = tmp_path / "path" / "opentelemetry"
    package.mkdir(parents=True)
    missing = "raise ModuleNotFoundError('No module named opentelemetry', name='opentelemetry')"
    (package / "__init__.py").write_text(missing)
    env: dict[str, Any] = {"OTEL_TRACES_EXPORTER": "otlp", "PYTHONPATH": str(package.parent)}
    server = Server(tmp_path, CONFIG, **env)
    server.executed = True
    with server:
        assert create(server.api(), traceparent()).status == 201
        assert server.api().next().status == 200
    (warning,) = (event for event in server.log if event.get("missing") == "opentelemetry")
    assert warning["event"] == "nothing is traced: pip install 'jobengine[opentelemetry]'"


def test_a_collector_that_is_down_harms_no_call_and_is_told_of_once(
    tmp_path: Path, clock: FileClock
) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    env: dict[str, Any] = {"OTEL_EXPORTER_OTLP_ENDPOINT": down, "OTEL_BSP_SCHEDULE_DELAY": "1"}
    env |= {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1"}
    with Server(tmp_path, CONFIG, clock_file=clock.path, **env) as server:
        api = server.api()
        assert create(api, traceparent()).status == 201
        server.wait_for("spans cannot be exported")
        for _ in range(100):
            assert create(api, traceparent()).status == 201
            assert api.next().status == 200
        assert server.stop() == 0
    told = [event["event"] for event in server.log if event.get("level") in ("warning", "error")]
    assert told == ["spans cannot be exported", "stopped without exporting the last spans"]


def test_a_move_takes_the_traces_along(tmp_path: Path, databases: Databases) -> None:
    sent = traceparent()
    there: dict[str, Any] = databases.env("postgresql")
    with Collector() as collector:
        with Server(tmp_path / "a", CONFIG, **collector.env) as server:
            assert create(server.api(), sent).status == 201
        moved = command.run("move", "--to", there["DATABASE_URL"], DB_PATH=str(server.database))
        assert moved.returncode == 0, moved.stderr
        with Server(tmp_path / "b", CONFIG, **collector.env, **there) as server:
            assert server.api().next().status == 200
        assert [span.links for span in collector.named(NEXT)] == [[link(sent)]]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp or none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "http/protobuf"),
    ],
)
def test_an_exporter_that_is_not_there_is_refused_by_name(
    tmp_path: Path, name: str, value: str, expected: str
) -> None:
    env = env_in(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318") | {name: value}
    with pytest.raises(ConfigRefused, match=f"{name}: expected {expected}, got '{value}'"):
        read_environment(env)


@pytest.mark.parametrize(
    "value", ["grpc://a:4317", "collector:4318", "nonsense", "http://[::1", "http://a:x", "http://"]
)
def test_an_endpoint_that_is_none_is_refused_by_name_and_not_shown(
    tmp_path: Path, value: str
) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        with pytest.raises(ConfigRefused, match=f"{name}: expected http://HOST:PORT") as caught:
            read_environment(env_in(tmp_path, **{name: value}))
        assert value not in str(caught.value).replace("http://HOST", "")


@pytest.mark.parametrize(
    "value", ["http://a:4318\n", "https://a/b", "http://[::1]:4318", " http://a"]
)
def test_an_endpoint_of_http_is_taken(tmp_path: Path, value: str) -> None:
    assert read_environment(env_in(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=value)).traced


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_PROPAGATORS", "b3,xray"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "abc"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-1"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "9" * 20),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "x"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-5"),
        ("OTEL_PYTHON_METER_PROVIDER", "nonsense"),
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "nonsense"),
        ("OTEL_PYTHON_FALCON_EXCLUDED_URLS", "livez,*a["),
        ("OTEL_PYTHON_EXCLUDED_URLS", "("),
        ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "*["),
        ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE", "("),
        ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS", "*("),
    ],
)
def test_a_variable_that_nothing_can_be_traced_with_is_named_and_exits_with_2(
    tmp_path: Path, name: str, value: str
) -> None:
    env: dict[str, Any] = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", name: value}
    server = Server(tmp_path, CONFIG, **env)
    server.launch()
    code, printed = server.result()
    assert code == 2, printed
    assert name in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_SAMPLER", "foo"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "abc"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a,b=c=d,,%"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b c"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "abc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "nonsense"),
    ],
)
def test_a_variable_that_is_not_understood_is_warned_of_and_calls_are_traced(
    tmp_path: Path, name: str, value: str
) -> None:
    with Collector() as collector:
        with Server(tmp_path, CONFIG, **collector.env | {name: value}) as server:
            assert create(server.api(), traceparent()).status == 201
        said = [e for e in server.log if e["event"] == "OpenTelemetry goes on in another way"]
        assert said
        assert len(collector.named(CREATE)) == 1, "and the trial call is not exported"
        assert len(collector.spans) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_PROPAGATORS", "tracecontext"),
        ("OTEL_PROPAGATORS", "none"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "0"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "0"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", ""),
        ("OTEL_PYTHON_FALCON_EXCLUDED_URLS", ".*"),
        ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", ".*"),
        ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE", ".*"),
        ("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
    ],
)
def test_odd_variables_fail_no_call(tmp_path: Path, name: str, value: str) -> None:
    with (
        Collector() as collector,
        Server(tmp_path, CONFIG, **collector.env | {name: value}) as server,
    ):
        api = server.api()
        uid = create(api, traceparent()).json()["uid"]
        assert api.next().json()["uid"] == uid
        assert api.update(uid, status="complete").status == 200
        assert api.send("GET", "/nowhere").status == 404
