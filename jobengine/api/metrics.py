"""The resource /metrics, in Prometheus' text format."""

from collections.abc import Callable, Iterator

from falcon import Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from jobengine import __version__
from jobengine.api import requests
from jobengine.api.timing import Timing
from jobengine.domain.errors import Forbidden, Unavailable
from jobengine.domain.job import State
from jobengine.engine.access import Access
from jobengine.engine.metrics import Metrics

_COUNTERS = {
    "created": "Jobs created by this process.",
    "claimed": "Jobs that went in progress by this process.",
    "completed": "Jobs that went to complete by this process.",
    "failed": "Jobs that went to failed by this process, their window's end included.",
    "expired": "Jobs that this process deleted since nobody claimed them in time.",
}
_DURATIONS = {
    "wait": "Time from when a job was queued to its claim by this process.",
    "run": "Time from a job's claim to complete or failed by this process.",
}


class MetricsText:
    """GET /metrics, for the services under `metrics` in the config, and for admins."""

    def __init__(
        self, metrics: Metrics, timing: Timing, access: Access, log_lines_lost: Callable[[], int]
    ) -> None:
        self._access = access
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(metrics, timing, log_lines_lost))

    def on_get(self, req: Request, resp: Response) -> None:
        """200 with all metrics. Raises Forbidden."""
        if not self._access.may_read_metrics(req.context.service):
            service = requests.service(req)
            raise Forbidden(f"{service!r} is not under `metrics` in the config, nor an admin")
        resp.content_type = CONTENT_TYPE_PLAIN_0_0_4
        resp.data = generate_latest(self._registry)

    on_head = on_get


class _Collector(Collector):
    """Takes every number where it is kept, when it is asked for."""

    def __init__(self, metrics: Metrics, timing: Timing, log_lines_lost: Callable[[], int]) -> None:
        self._metrics = metrics
        self._timing = timing
        self._log_lines_lost = log_lines_lost

    def collect(self) -> Iterator[Metric]:
        """All families; without what a queue holds while the database cannot be read."""
        build = GaugeMetricFamily(
            "jobengine_build_info", "The version that runs; always 1.", labels=["version"]
        )
        build.add_metric([__version__], 1)
        yield build
        yield from self._held()
        yield from self._done()
        yield from self._load()
        yield CounterMetricFamily(
            "jobengine_log_lines_lost",
            "Log lines that could not be written.",
            self._log_lines_lost(),
        )
        requests_ = HistogramMetricFamily(
            "jobengine_http_request_duration_seconds",
            "Time from a request's head to its answer, waits for a job included.",
            labels=["method", "route", "status"],
        )
        for (method, route, status), times in sorted(self._timing.read().items()):
            requests_.add_metric([method, route, str(status)], times.buckets, times.sum)
        yield requests_

    def _held(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily(
            "jobengine_jobs",
            "Jobs in the database, by the state that they lie in.",
            labels=["queue", "state"],
        )
        ages = GaugeMetricFamily(
            "jobengine_oldest_queued_job_age_seconds",
            "Age of the oldest queued job in the database; 0 where none is queued.",
            labels=["queue"],
        )
        try:
            held = self._metrics.held()
        except Unavailable:
            held = {}  # what is known without the database is wanted just then
        for queue, here in held.items():
            for state in State:
                jobs.add_metric([queue, state.value], here.depth[state])
            ages.add_metric([queue], here.oldest_queued_age)
        yield from (jobs, ages)

    def _done(self) -> Iterator[Metric]:
        done = self._metrics.done()
        for name, text in _COUNTERS.items():
            counter = CounterMetricFamily(f"jobengine_jobs_{name}", text, labels=["queue"])
            for queue, here in done.items():
                counter.add_metric([queue], getattr(here, name))
            yield counter
        for name, text in _DURATIONS.items():
            family = HistogramMetricFamily(
                f"jobengine_job_{name}_duration_seconds", text, labels=["queue"]
            )
            for queue, here in done.items():
                times = getattr(here, name)
                if times.count:  # a queue without would have 17 lines of nothing
                    family.add_metric([queue], times.buckets, times.sum)
            yield family

    def _load(self) -> Iterator[Metric]:
        load = self._metrics.load()
        yield HistogramMetricFamily(
            "jobengine_writer_batch_operations",
            "Operations that the writer committed together.",
            load.batches.buckets,
            load.batches.sum,
        )
        yield HistogramMetricFamily(
            "jobengine_writer_commit_duration_seconds",
            "Time of the writer's commits, each with its fsync.",
            load.commits.buckets,
            load.commits.sum,
        )
        yield GaugeMetricFamily(
            "jobengine_waiting_claims", "Claims that wait for a job.", load.waiting
        )
