"""The page of one queue: who uses it, how it fares, and its switches."""

from collections.abc import Sequence

import msgspec
from falcon import Request, Response

from jobengine.domain.clock import Clock
from jobengine.domain.job import State
from jobengine.domain.user import Role
from jobengine.engine.metrics import Metrics, Point
from jobengine.engine.queue_admin import QueueAdmin
from jobengine.web import forms, render
from jobengine.web.charts import Plot
from jobengine.web.forms import mistake
from jobengine.web.guard import actor
from jobengine.web.render import url
from jobengine.web.troubles import RECENT, troubles

_FORM_MAX = 16 * 1024


class Span(msgspec.Struct, frozen=True):
    """What time plots are over, and how long each of their steps is, in seconds."""

    name: str
    seconds: int
    step: int


_SPANS = (
    Span("hour", 3600, 60),
    Span("day", 86400, 600),
    Span("week", 7 * 86400, 3600),
    Span("month", 30 * 86400, 6 * 3600),
)


class QueuePage:
    """GET /queue."""

    def __init__(self, queues: QueueAdmin, metrics: Metrics, clock: Clock) -> None:
        self._queues = queues
        self._metrics = metrics
        self._clock = clock

    def on_get(self, req: Request, resp: Response) -> None:
        """200 with the queue of a name."""
        form, visitor = forms.query(req), req.context.visitor
        report = self._queues.get(visitor.name, form.text("name"))
        now = self._clock.now()
        span = _span(form.text("span", "hour"))
        end = now - now % span.step + span.step
        points = self._metrics.series(report.name, end - span.seconds, end, span.step)
        render.page(
            req,
            resp,
            "queue.html",
            report=report,
            troubles=troubles(report, self._metrics.flows(RECENT).get(report.name, [])),
            may_act=visitor.role.at_least(Role.ADMIN),
            span=span,
            spans=_SPANS,
            plots=_plots(points),
            now=now,
        )

    on_head = on_get


def _span(name: str) -> Span:
    for span in _SPANS:
        if span.name == name:
            return span
    raise mistake("span", f"one of {', '.join(span.name for span in _SPANS)}")


def _plots(points: Sequence[Point]) -> list[Plot]:
    times = [point.time for point in points]
    flows = ("created", "claimed", "completed", "failed", "expired")
    depths = ("queued", "inprogress", "failed")
    return [
        Plot("Jobs", times, {name: [getattr(p, name) for p in points] for name in flows}),
        Plot("Depth", times, {name: [getattr(p.depth, name) for p in points] for name in depths}),
        Plot(
            "Waiting, until claimed",
            times,
            {"p50": [p.wait_p50 for p in points], "p95": [p.wait_p95 for p in points]},
            seconds=True,
        ),
        Plot(
            "Running, until complete or failed",
            times,
            {"p50": [p.run_p50 for p in points], "p95": [p.run_p95 for p in points]},
            seconds=True,
        ),
    ]


class Switch:
    """POST /queue/pause and /queue/resume."""

    needs_to_act = Role.ADMIN

    def __init__(self, queues: QueueAdmin, *, paused: bool) -> None:
        self._queues = queues
        self._paused = paused

    def on_post(self, req: Request, resp: Response) -> None:
        """303 back to the queue."""
        name = forms.body(req, _FORM_MAX).text("name")
        self._queues.pause(actor(req), name, paused=self._paused)
        said = "is paused: it takes jobs and hands out none" if self._paused else "goes on"
        render.see(resp, url("/queue", name=name), f"The queue {said}.")


class PurgePage:
    """POST /queue/purge: deletes the queue's jobs, once that has been asked for twice."""

    needs_to_act = Role.ADMIN

    def __init__(self, queues: QueueAdmin) -> None:
        self._queues = queues

    def on_post(self, req: Request, resp: Response) -> None:
        """200 with the question; 303 to the queue once it was answered."""
        form = forms.body(req, _FORM_MAX)
        name, state = form.text("name"), _state(form.text("state"))
        report = self._queues.get(req.context.visitor.name, name)
        if form.text("confirmed") != "1":
            jobs = sum(report.jobs.values()) if state is None else report.jobs[state.value]
            render.page(req, resp, "confirm_purge.html", report=report, state=state, jobs=jobs)
            return
        deleted = self._queues.purge(actor(req), name, state)
        render.see(resp, url("/queue", name=name), f"{deleted:,} jobs were deleted.")


def _state(text: str) -> State | None:
    try:
        return State(text) if text else None
    except ValueError:
        raise mistake("state", f"one of {', '.join(state.value for state in State)}") from None
