"""GET /metrics: who may read it, what it says, and that Prometheus and its friends understand."""

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from jobengine.api.timing import BOUNDS, Timing
from jobengine.domain.durations import Histogram
from jobengine.domain.errors import StoreFailed
from jobengine.wsgi import Service
from tests.conftest import launch_in
from tests.harness import CHECKOUT, command
from tests.harness.client import Answer, Api, HttpTransport, WsgiTransport
from tests.harness.clock import FileClock
from tests.harness.postgresql import free_port
from tests.harness.server import Server

QUEUES = "queues:\n  q: {read: ['*'], write: ['*']}\n  r: {read: ['*'], write: ['*']}\n"
OPEN = "version: 1\nmetrics: ['*']\n" + QUEUES
_TRIES_SECONDS = 30


def read(http: HttpTransport | WsgiTransport, **headers: str) -> Answer:
    return http.send("GET", "/metrics", {k.replace("_", "-"): v for k, v in headers.items()}, None)


Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


def samples(text: str) -> Samples:
    """The values by the names of the samples and their labels."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def labels(**names: str) -> frozenset[tuple[str, str]]:
    return frozenset(names.items())


class Bench:
    """A service on a clock of its own, without duties, that anyone may ask for metrics."""

    def __init__(self, folder: Path, database: dict[str, str]) -> None:
        (folder / "config.yml").write_text(OPEN)
        self.clock = FileClock(folder / "clock")
        self.service = Service(launch_in(folder, **database), self.clock)
        self.http = WsgiTransport(self.service.app)
        self.api = Api(self.http, "q")

    def samples(self) -> Samples:
        answer = read(self.http)
        assert answer.status == 200
        return samples(answer.body.decode())


@pytest.fixture
def bench(tmp_path: Path, database: dict[str, str]) -> Iterator[Bench]:
    made = Bench(tmp_path, database)
    yield made
    made.service.stop()


def busy(bench: Bench) -> None:
    """One job of every end, in q."""
    uid = bench.api.made(valid_for=60)["uid"]
    bench.api.create(valid_for=6)
    bench.api.create(valid_for=6)
    bench.clock.advance(5)
    assert bench.api.next().json()["uid"] == uid
    failing = bench.api.next().json()["uid"]
    bench.clock.advance(20)
    bench.api.update(uid, status="complete")
    bench.api.update(failing, status="failed")
    bench.service._duties.run_once()
    bench.api.create(valid_for=60)
    bench.clock.advance(7)


def test_what_was_done_is_told_by_queue(bench: Bench) -> None:
    busy(bench)
    found = bench.samples()
    counted = {"created": 4, "claimed": 2, "completed": 1, "failed": 1, "expired": 1}
    for name, jobs in counted.items():
        counter = found[f"jobengine_jobs_{name}_total"]
        assert counter == {labels(queue="q"): jobs, labels(queue="r"): 0}
    held = {"queued": 1, "inprogress": 0, "complete": 1, "failed": 1}
    for state, jobs in held.items():
        assert found["jobengine_jobs"][labels(queue="q", state=state)] == jobs
        assert found["jobengine_jobs"][labels(queue="r", state=state)] == 0
    ages = found["jobengine_oldest_queued_job_age_seconds"]
    assert ages == {labels(queue="q"): 7, labels(queue="r"): 0}


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/queues"])
def test_queues_and_priorities_cost_no_statement_each(bench: Bench, path: str) -> None:
    statements: list[str] = []
    engine = bench.service._database.readers
    event.listen(engine, "before_cursor_execute", lambda *sent: statements.append(sent[2]))

    def cost() -> int:
        statements.clear()
        answer = bench.http.send("GET", path, {"X-Name": "both"}, None)
        assert answer.status == 200
        return len(statements)

    bench.api.create(priority=50)
    one = cost()
    bench.clock.advance(3)
    for queue in ("q", "r"):
        api = Api(bench.http, queue)
        drafts = [{"content": {}, "valid_for": 600, "priority": 1 + n % 100} for n in range(300)]
        api.send("PUT", "/api/v1/jobs/create", drafts)
    assert cost() == one
    ages = bench.samples()["jobengine_oldest_queued_job_age_seconds"]
    assert ages == {labels(queue="q"): 3, labels(queue="r"): 0}


def test_the_oldest_of_more_queues_than_one_statement_takes(bench: Bench) -> None:
    reads = bench.service._reads
    ids = [queue.id for queue in bench.service.queues.all()]
    bench.api.create(priority=7)
    bench.clock.advance(5)
    bench.api.create(priority=9)
    assert reads.oldest_queued([]) == {}
    assert reads.oldest_queued([*range(10_000, 11_000), *ids]) == {ids[0]: bench.clock.now() - 5}


def test_durations_are_histograms_of_the_queues_that_have_some(bench: Bench) -> None:
    busy(bench)
    found = bench.samples()
    for name, seconds, jobs in (("wait", 5, 2), ("run", 20, 2)):
        family = f"jobengine_job_{name}_duration_seconds"
        assert found[f"{family}_count"] == {labels(queue="q"): jobs}
        assert found[f"{family}_sum"] == {labels(queue="q"): seconds * jobs}
        at_most = {dict(key)["le"]: value for key, value in found[f"{family}_bucket"].items()}
        assert (at_most["2"], at_most["30"], at_most["+Inf"]) == (0, jobs, jobs)
        assert at_most["5"] == (jobs if name == "wait" else 0)


def test_requests_are_timed_by_method_route_and_status(bench: Bench) -> None:
    uid = bench.api.made()["uid"]
    bench.api.get(uid)
    bench.api.get("no-such-job")
    bench.api.send("GET", "/nothing/here")
    bench.http.send("PATCH", "/api/v1/jobs", {}, None)
    counted = bench.samples()["jobengine_http_request_duration_seconds_count"]
    route = "/api/v1/jobs/{uid}"
    expected = {
        labels(method="PUT", route="/api/v1/jobs/create", status="201"): 1,
        labels(method="GET", route=route, status="200"): 1,
        labels(method="GET", route=route, status="404"): 1,
        labels(method="GET", route="none", status="404"): 1,
    }
    assert expected.items() <= counted.items()
    others = [dict(key) for key in counted if dict(key)["method"] == "other"]
    assert [each["method"] for each in others] == ["other"]


def test_the_writer_and_the_version_are_told(bench: Bench) -> None:
    busy(bench)
    found = bench.samples()
    (batches,) = found["jobengine_writer_batch_operations_count"].values()
    (operations,) = found["jobengine_writer_batch_operations_sum"].values()
    (commits,) = found["jobengine_writer_commit_duration_seconds_count"].values()
    assert batches == commits >= operations >= 9
    assert found["jobengine_waiting_claims"] == {frozenset(): 0}
    (version,) = found["jobengine_build_info"]
    assert dict(version).keys() == {"version"}


def test_a_claim_that_waits_is_counted(tmp_path: Path) -> None:
    with Server(tmp_path, OPEN) as server:
        http, waiter = server.http(), Api(server.http(), "q")
        path = "/api/v1/jobs/next?wait=60"
        thread = threading.Thread(target=lambda: waiter.send("GET", path))
        thread.start()
        while samples(read(http).body.decode())["jobengine_waiting_claims"] != {frozenset(): 1}:
            pass
        server.api().create()
        thread.join()
        while samples(read(http).body.decode())["jobengine_waiting_claims"] != {frozenset(): 0}:
            pass


def test_totals_never_go_down_and_end_with_all(bench: Bench) -> None:
    """Read while others work: nothing that is read waits for them, nor they for it."""
    callers, calls = 4, 40

    def work() -> None:
        for _ in range(calls):
            bench.api.made("complete")

    threads = [threading.Thread(target=work) for _ in range(callers)]
    for thread in threads:
        thread.start()
    last: Samples = {}
    while any(thread.is_alive() for thread in threads):
        found = bench.samples()
        for name in filter(re.compile(r"_(total|bucket|count)$").search, last):
            for key, value in last[name].items():
                assert found[name][key] >= value, name
        last = found
    found = bench.samples()
    done = callers * calls
    assert found["jobengine_jobs_created_total"][labels(queue="q")] == done
    assert found["jobengine_jobs_completed_total"][labels(queue="q")] == done
    timed = found["jobengine_http_request_duration_seconds_count"]
    created = labels(method="PUT", route="/api/v1/jobs/create", status="201")
    assert timed[created] == done, "the times of threads that have ended, too"


def test_what_threads_timed_outlives_them() -> None:
    timing, kind = Timing(), ("GET", "/livez", 200)
    for _ in range(3):
        thread = threading.Thread(target=lambda: timing._begin().update({kind: Histogram(BOUNDS)}))
        thread.start()
        thread.join()
    timing._begin()
    assert len(timing._of_threads) == 1, "those of the ended are joined"
    assert list(timing._of_the_ended) == [kind]


def test_without_the_database_the_rest_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.api.create()

    def lost(_: object) -> None:
        raise StoreFailed("the database could not be read")

    monkeypatch.setattr(bench.service._reads, "depths", lost)
    found = bench.samples()
    assert "jobengine_jobs" not in found
    assert found["jobengine_jobs_created_total"][labels(queue="q")] == 1


def test_a_parameter_is_refused(bench: Bench) -> None:
    assert bench.http.send("GET", "/metrics?queue=q", {}, None).status == 400


@pytest.mark.parametrize(
    ("setting", "service", "status"),
    [
        ("", None, 400),
        ("", "both", 403),
        ("", "boss", 200),
        ("metrics: [prometheus]", None, 400),
        ("metrics: [prometheus]", "prometheus", 200),
        ("metrics: [prometheus]", "boss", 200),
        ("metrics: [prometheus]", "both", 403),
        ("metrics: ['*']", None, 200),
        ("metrics: ['*']", "both", 200),
    ],
)
def test_only_readers_of_metrics_and_admins_read_them(
    tmp_path: Path, setting: str, service: str | None, status: int
) -> None:
    (tmp_path / "config.yml").write_text(f"version: 1\nadmins: [boss]\n{setting}\n{QUEUES}")
    here = Service(launch_in(tmp_path))
    headers = {} if service is None else {"X_Name": service}
    assert read(WsgiTransport(here.app), **headers).status == status
    here.stop()


def test_with_keys_each_reader_shows_one(tmp_path: Path) -> None:
    text = "version: 1\nauthentication: keys\nmetrics: [prometheus]\n" + QUEUES
    with Server(tmp_path, text) as server:
        key, other = (
            command.run_beside(server, "keys", "create", name).stdout.strip()
            for name in ("prometheus", "shop")
        )
        http = server.http()
        assert read(http).status == 401
        assert read(http, X_Name="prometheus").status == 401
        assert read(http, Authorization=f"Bearer {other}").status == 403
        answer = read(http, Authorization=f"Bearer {key}")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_promtool_finds_nothing_to_blame(bench: Bench) -> None:
    busy(bench)
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=read(bench.http).body,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def named(text: str) -> set[str]:
    """The names of metrics in a text."""
    return set(re.findall(r"\bjobengine_[a-z_]+\b", text))


@pytest.mark.parametrize("name", ["grafana.json", "keda.yml", "metrics.md"])
def test_what_the_docs_ask_for_is_there(bench: Bench, name: str) -> None:
    busy(bench)
    text = (CHECKOUT / "docs" / name).read_text()
    there = bench.samples().keys()
    families = {re.sub(r"_(bucket|sum|count)$", "", each) for each in there}
    assert named(text)
    assert named(text) - there - families == set()
    if name == "metrics.md":
        assert families - named(text) == set(), "each is documented"


def expressions() -> list[str]:
    """What the dashboard and the scaler ask Prometheus."""
    dashboard = json.loads((CHECKOUT / "docs" / "grafana.json").read_text())
    scaler = yaml.safe_load((CHECKOUT / "docs" / "keda.yml").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [trigger["metadata"]["query"] for trigger in scaler["spec"]["triggers"]]
    plain = [text.replace("$__rate_interval", "1m").replace("$queue", ".*") for text in asked]
    return [text.replace('queue="emails"', 'queue="q"') for text in plain]


class Prometheus:
    """A Prometheus that scrapes a server every half second."""

    def __init__(self, folder: Path, target: int, key: str) -> None:
        folder.mkdir()
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": [
                {
                    "job_name": "jobengine",
                    "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
                    "authorization": {"credentials": key},
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._port = free_port()
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def ask(self, query: str) -> list[Any]:
        """The samples that a query gives now."""
        url = f"http://127.0.0.1:{self._port}/api/v1/query?" + urllib.parse.urlencode(
            {"query": query}
        )
        answer: HTTPResponse
        with urllib.request.urlopen(url) as answer:
            return list(json.load(answer)["data"]["result"])

    def wait_for(self, query: str) -> list[Any]:
        """Asks until there are samples."""
        deadline = time.monotonic() + _TRIES_SECONDS
        while time.monotonic() < deadline:
            try:
                found = self.ask(query)
            except OSError:
                found = []  # it is still starting
            if found:
                return found
        raise AssertionError(f"Prometheus has no {query}")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._log.close()


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")
def test_a_real_prometheus_scrapes_it(tmp_path: Path) -> None:
    text = "version: 1\nauthentication: keys\nadmins: [ops]\nmetrics: [prometheus]\n" + QUEUES
    with Server(tmp_path / "server", text) as server:
        key, worker = (
            command.run_beside(server, "keys", "create", name).stdout.strip()
            for name in ("prometheus", "worker")
        )
        api = Api(server.http(), "q", None, f"Bearer {worker}")
        api.create()
        api.create()
        uid = api.next().json()["uid"]
        api.update(uid, status="complete")
        prometheus = Prometheus(tmp_path / "prometheus", server.port, key)
        try:
            (queued,) = prometheus.wait_for('jobengine_jobs{queue="q", state="queued"}')
            assert queued["value"][1] == "1"
            (created,) = prometheus.ask('jobengine_jobs_created_total{queue="q"}')
            assert created["value"][1] == "2"
            assert prometheus.ask("jobengine_job_run_duration_seconds_bucket")
            # Rates need two scrapes.
            prometheus.wait_for("rate(jobengine_jobs_created_total[1m])")
            for query in expressions():
                prometheus.ask(query)  # raises where it is none
            assert prometheus.ask(expressions()[0])
        finally:
            prometheus.close()
