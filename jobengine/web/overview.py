"""The page of all queues: what is wrong first."""

from collections.abc import Sequence

import msgspec
from falcon import Request, Response
from markupsafe import Markup

from jobengine.domain.clock import Clock
from jobengine.engine.metrics import Flow, Metrics
from jobengine.engine.queue_admin import QueueAdmin
from jobengine.engine.queue_report import QueueReport
from jobengine.web import render
from jobengine.web.charts import spark
from jobengine.web.troubles import RECENT, Trouble, troubles

_HOUR = 60


class Row(msgspec.Struct, frozen=True):
    """A queue in the overview. `came` and `went` are jobs in a minute."""

    report: QueueReport
    troubles: Sequence[Trouble]
    came: float
    went: float
    spark: Markup


class Overview:
    """GET /."""

    def __init__(self, queues: QueueAdmin, metrics: Metrics, clock: Clock) -> None:
        self._queues = queues
        self._metrics = metrics
        self._clock = clock

    def on_get(self, req: Request, resp: Response) -> None:
        """200 with every queue."""
        flows = self._metrics.flows(_HOUR)
        reports = self._queues.all(req.context.visitor.name)
        rows = [_row(report, flows.get(report.name, [])) for report in reports]
        rows.sort(key=lambda row: ([t.rank for t in row.troubles] or [9], row.report.name))
        render.page(req, resp, "overview.html", rows=rows, now=self._clock.now())

    on_head = on_get


def _row(report: QueueReport, flows: Sequence[Flow]) -> Row:
    recent = flows[-RECENT:]
    lines = {
        "created": [flow.created for flow in flows],
        "completed": [flow.completed for flow in flows],
        "failed": [flow.failed for flow in flows],
    }
    said = ", ".join(f"{sum(values):,} {name}" for name, values in lines.items())
    return Row(
        report,
        troubles(report, flows),
        sum(flow.created for flow in recent) / RECENT,
        sum(flow.completed + flow.failed + flow.expired for flow in recent) / RECENT,
        spark(lines, f"In the last hour: {said}"),
    )
