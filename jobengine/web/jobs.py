"""The page of jobs: filtered, searched, and acted on, one or many at once."""

from collections.abc import Sequence

import msgspec
from falcon import Request, Response

from jobengine.domain.clock import Clock
from jobengine.domain.job import PRIORITY_MAX, PRIORITY_MIN, State
from jobengine.domain.uids import uid_bytes, uid_text
from jobengine.domain.user import Role
from jobengine.engine.browsing import Browsing
from jobengine.engine.desk import STEP_MAX, Action, Chosen, Deed, Desk, Done
from jobengine.engine.queue_admin import QueueAdmin
from jobengine.engine.views import Page, place_in, place_text
from jobengine.web import forms, render
from jobengine.web.forms import Form, mistake
from jobengine.web.guard import actor
from jobengine.web.render import url
from jobengine.web.view import View, view_in

# A form names each job by some 60 bytes, and there are fifty on a page.
_FORM_MAX = 256 * 1024
_PAGE = 50
_PREVIEW = 160
_DONE = {
    Action.RETRY: "put back to queued",
    Action.COMPLETE: "marked complete",
    Action.FAIL: "marked failed",
    Action.DELETE: "deleted",
    Action.PRIORITISE: "given another priority",
}
# What is done to ticked jobs without a question.
_HARMLESS = (Action.RETRY, Action.PRIORITISE)


class JobsPage:
    """GET /jobs."""

    def __init__(self, browsing: Browsing, queues: QueueAdmin, clock: Clock) -> None:
        self._browsing = browsing
        self._queues = queues
        self._clock = clock

    def on_get(self, req: Request, resp: Response) -> None:
        """200 with a page of the jobs that the filters let through."""
        view = view_in(forms.query(req))
        visitor = req.context.visitor
        if not visitor.sees_contents:
            view = msgspec.structs.replace(view, contains="")  # or it would tell what is in them
        report = self._queues.get(visitor.name, view.queue)
        after = place_in(view.after)
        if view.contains:
            page = self._browsing.search(
                view.queue, view.filter(), view.contains, view.how(), after, _PAGE
            )
        else:
            page = self._browsing.page(
                view.queue,
                view.filter(),
                view.how(),
                after,
                _PAGE,
                contents=visitor.sees_contents,
            )
        render.page(
            req,
            resp,
            "jobs.html",
            view=view,
            report=report,
            page=page,
            rows=[(job, _preview(job.content)) for job in page.jobs],
            following=_following(view, page),
            searched=_total(report.jobs, view),
            now=self._clock.now(),
        )

    on_head = on_get


def _following(view: View, page: Page) -> str:
    return "" if page.after is None else view.address(after=place_text(page.after))


def _total(jobs: dict[str, int], view: View) -> int:
    return jobs.get(view.state, 0) if view.state else sum(jobs.values())


def _preview(content: bytes | None) -> str:
    return "" if content is None else content[: _PREVIEW * 4].decode("utf-8", "ignore")[:_PREVIEW]


class Act:
    """POST /jobs/act: one action on the jobs that were ticked, or on all that a view shows."""

    needs_to_act = Role.OPERATOR

    def __init__(self, desk: Desk, queues: QueueAdmin) -> None:
        self._desk = desk
        self._queues = queues

    def on_post(self, req: Request, resp: Response) -> None:
        """303 back to the view; 200 with a question first, where it cannot be undone."""
        form = forms.body(req, _FORM_MAX)
        view, deed = view_in(form), _deed(form)
        filter_ = view.filter()
        everything = form.text("all") == "1"
        chosen = [] if everything else _chosen(form.all("job"))
        origin = _origin(form, view, chosen)
        self._queues.get(req.context.visitor.name, view.queue)
        if not everything and not chosen:
            raise mistake("job", "at least one job: tick some first")
        if everything and view.contains:
            raise mistake("all", "jobs that were ticked: a search in contents finds one by one")
        if form.text("confirmed") != "1" and (everything or deed.action not in _HARMLESS):
            self._ask(req, resp, view, deed, form, origin)
            return
        if everything:
            done = self._desk.act_on_all(actor(req), view.queue, filter_, deed)
        else:
            done = self._desk.act(actor(req), view.queue, chosen, deed)
        gone = deed.action is Action.DELETE
        render.see(resp, view.address(after=view.after) if gone else origin, said(deed, done))

    def _ask(
        self, req: Request, resp: Response, view: View, deed: Deed, form: Form, origin: str
    ) -> None:
        report = self._queues.get(req.context.visitor.name, view.queue)
        everything = form.text("all") == "1"
        render.page(
            req,
            resp,
            "confirm_jobs.html",
            view=view,
            deed=deed,
            done=_DONE[deed.action],
            everything=everything,
            most=_total(report.jobs, view) if everything else len(form.all("job")),
            step=STEP_MAX,
            jobs=[] if everything else form.all("job"),
            own=form.text("own"),
            origin=origin,
        )


def _origin(form: Form, view: View, chosen: Sequence[Chosen]) -> str:
    """The page that the action was asked for on: the job's own, or the view."""
    if form.text("own") == "1" and len(chosen) == 1:
        return url(f"/jobs/{uid_text(chosen[0].uid)}")
    return view.address(after=view.after)


def _deed(form: Form) -> Deed:
    try:
        action = Action(form.text("action"))
    except ValueError:
        raise mistake("action", f"one of {', '.join(a.value for a in Action)}") from None
    if action is not Action.PRIORITISE:
        return Deed(action)
    priority = form.integer("to", PRIORITY_MIN, PRIORITY_MAX)
    if priority is None:
        raise mistake("to", f"a priority from {PRIORITY_MIN} to {PRIORITY_MAX}")
    return Deed(action, priority)


def _chosen(values: Sequence[str]) -> list[Chosen]:
    return [chosen_in(value) for value in values]


def chosen_in(text: str) -> Chosen:
    """A job as it was seen: `uid:state`, or `uid:state:edition`. Raises InvalidInput."""
    named, _, seen = text.partition(":")
    state, _, edition = seen.partition(":")
    uid = uid_bytes(named)
    if uid is None or state not in {s.value for s in State}:
        raise mistake("job", "the uid of a job and its state")
    return Chosen(uid, State(state), edition)


def said(deed: Deed, done: Done) -> str:
    """What an action came to, in words."""
    text = f"{done.jobs:,} {'job was' if done.jobs == 1 else 'jobs were'} {_DONE[deed.action]}"
    if done.missed:
        text += f"; {done.missed:,} had changed or gone meanwhile, and were left alone"
    return text + ("; there are more, do it again for the next" if done.more else "") + "."
