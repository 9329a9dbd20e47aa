"""The page of one job: what it holds, what happened to it, and its changes."""

import re
from datetime import UTC, datetime

import msgspec
from falcon import Request, Response

from jobengine.domain.clock import Clock
from jobengine.domain.errors import Forbidden, UnknownJob
from jobengine.domain.job import (
    DAMAGED,
    PRIORITY_MAX,
    PRIORITY_MIN,
    TIME_MAX,
    Changes,
    Job,
    State,
    edition,
)
from jobengine.domain.uids import uid_bytes, uid_text
from jobengine.domain.user import Role
from jobengine.engine.browsing import Browsing
from jobengine.engine.desk import Desk
from jobengine.engine.views import Detail, Step
from jobengine.web import forms, render
from jobengine.web.forms import Form, mistake
from jobengine.web.guard import actor
from jobengine.web.jobs import chosen_in
from jobengine.web.render import url

_INDENT = 2
# What a content may grow by where it is laid out over lines, in bytes; browsers send a
# carriage return for each line in a form, beside.
_ADDED_MAX = 256 * 1024
_LAID_OUT_MAX = 2 * _ADDED_MAX
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")
_UTC = "%Y-%m-%d %H:%M:%S"


class JobPage:
    """GET and POST /jobs/{uid}."""

    needs_to_act = Role.OPERATOR

    def __init__(self, browsing: Browsing, desk: Desk, clock: Clock, max_body_bytes: int) -> None:
        self._browsing = browsing
        self._desk = desk
        self._clock = clock
        self._max = max_body_bytes

    def on_get(self, req: Request, resp: Response, uid: str) -> None:
        """200 with the job."""
        show(req, resp, self._browsing.job(_uid(uid)), self._clock.now())

    on_head = on_get

    def on_post(self, req: Request, resp: Response, uid: str) -> None:
        """303 to the job as it is then; what was not edited is left as it is."""
        form = forms.parts(req, self._max + _LAID_OUT_MAX)
        detail = self._browsing.job(_uid(uid))
        changes = _changes(form, detail.job, self._max)
        if changes == Changes():
            render.see(resp, url(f"/jobs/{detail.job.uid}"), "Nothing was changed.")
            return
        seen = chosen_in(form.text("seen"))
        self._desk.change(actor(req), detail.queue.name, seen, changes)
        render.see(resp, url(f"/jobs/{detail.job.uid}"), "The job was changed.")


class Reveal:
    """POST /jobs/{uid}/reveal: the content, for a viewer who may see it."""

    needs_to_act = Role.VIEWER

    def __init__(self, browsing: Browsing, desk: Desk, clock: Clock) -> None:
        self._browsing = browsing
        self._desk = desk
        self._clock = clock

    def on_get(self, _req: Request, resp: Response, uid: str) -> None:
        """303 to the job, for a page that shows a content and is to be refreshed."""
        render.see(resp, url(f"/jobs/{uid_text(_uid(uid))}"))

    on_head = on_get

    def on_post(self, req: Request, resp: Response, uid: str) -> None:
        """200 with the job and its content, once the audit trail says that it was shown."""
        visitor = req.context.visitor
        if not (visitor.reveal or visitor.sees_contents):
            raise Forbidden(f"{visitor.name!r} may not see the contents of jobs")
        detail = self._browsing.job(_uid(uid))
        self._desk.revealed(actor(req), detail.queue.name, _uid(uid))
        show(req, resp, detail, self._clock.now(), revealed=True)


class Find:
    """GET /find: the job of a uid, or those whose uids begin so."""

    def __init__(self, browsing: Browsing, clock: Clock) -> None:
        self._browsing = browsing
        self._clock = clock

    def on_get(self, req: Request, resp: Response) -> None:
        """303 to the job where there is one, else 200 with those that there are."""
        wanted = forms.query(req).text("uid").strip()[:100]
        jobs = self._browsing.find(wanted)
        if len(jobs) == 1:
            render.see(resp, url(f"/jobs/{jobs[0].uid}"))
            return
        render.page(req, resp, "found.html", wanted=wanted, jobs=jobs, now=self._clock.now())

    on_head = on_get


def _uid(text: str) -> bytes:
    uid = uid_bytes(text)
    if uid is None:
        raise UnknownJob
    return uid


def show(req: Request, resp: Response, detail: Detail, now: int, *, revealed: bool = False) -> None:
    """Answers with the page of a job."""
    visitor, job = req.context.visitor, detail.job
    shown = revealed or visitor.sees_contents
    render.page(
        req,
        resp,
        "job.html",
        job=job,
        queue=detail.queue,
        content=_pretty(bytes(job.content)) if shown else None,
        damaged=bytes(job.content) == DAMAGED,
        events=events(detail, now),
        dropped=detail.dropped,
        edition=edition(bytes(job.content), job.priority, job.timeout_time),
        may_act=visitor.role.at_least(Role.OPERATOR),
        utc=_utc,
        now=now,
    )


def _pretty(content: bytes) -> str:
    """The content over several lines, each number and name just as it was sent.

    As it was sent where it would grow by too much: each line of a deep one begins with as
    many spaces as all of a small one has bytes.
    """
    if _added(content) <= _ADDED_MAX:
        content = msgspec.json.format(content, indent=_INDENT)
    return content.decode("utf-8", "replace")


def _added(content: bytes) -> int:
    """No less than the bytes that lines and indents add to a content."""
    bare = _STRINGS.sub(b"", content)
    depth = deepest = lines = 0
    for bracket in _BRACKETS.findall(bare):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
        lines += 1
    return (lines + bare.count(b",")) * (1 + _INDENT * deepest) + bare.count(b":")


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a job, or will; `after` is how long the step before took."""

    what: str
    time: int
    state: str = ""
    who: str = ""
    after: int | None = None
    coming: bool = False


def events(detail: Detail, now: int) -> list[Event]:
    """What happened to a job, and what time will do to it if nobody does anything."""
    job, queue, found, claims = detail.job, detail.queue, list[Event](), 0
    for step in detail.steps:
        after = step.time - found[-1].time if found else None
        what = "Created" if not found else _what(step, claims)
        found.append(Event(what, step.time, step.state.value, step.who, after))
        claims = step.times
    # A claim's last_updated is later than created, also where both were in one second.
    if job.last_updated > max(found[-1].time, job.created + 1):
        found.append(Event("Updated", job.last_updated))
    coming = {
        State.QUEUED: ("Will expire, if nobody claims it", job.timeout_time),
        State.INPROGRESS: ("Will fail, without an update", job.last_updated + queue.window),
    }.get(job.state, ("Will be deleted", job.last_updated + queue.keep))
    if coming[1] >= now:
        found.append(Event(*coming, coming=True))
    return found


def _what(step: Step, claims: int) -> str:
    """A step in words, after so many claims."""
    if step.state is State.INPROGRESS:
        if step.times > claims + 1:
            return f"Claimed {step.times:,} times, this the last"
        return "Claimed again" if claims else "Claimed"
    if step.state is State.QUEUED:
        return "Put back to queued"
    if step.state is State.FAILED and not step.who:
        return "Failed, since its window ended"
    return str(step.state.value).capitalize()


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(_UTC)


def _changes(form: Form, job: Job, limit: int) -> Changes:
    """What a form asks to be other than it is. Raises InvalidInput."""
    content = form.text("content").replace("\r\n", "\n").encode()
    priority = form.integer("priority", PRIORITY_MIN, PRIORITY_MAX)
    timeout_time = _time(form.text("timeout_time").strip())
    return Changes(
        content=_edited(content, bytes(job.content), limit),
        priority=None if priority == job.priority else priority,
        timeout_time=None if timeout_time == job.timeout_time else timeout_time,
    )


def _edited(content: bytes, before: bytes, limit: int) -> bytes | None:
    """The new content, None where it is the one before, differently laid out at most."""
    if content == _pretty(before).encode():
        return None
    try:
        compact = _compact(content)
        whole = msgspec.json.decode(content, type=dict[str, msgspec.Raw]) is not None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise mistake("content", f"a JSON object: {error}") from error
    if len(compact) > limit:
        raise mistake("content", f"at most {limit} bytes without the spaces between its parts")
    same = whole and compact == _compact(before)
    return None if same else compact


def _compact(content: bytes) -> bytes:
    try:
        return msgspec.json.format(content, indent=-1)
    except RecursionError:  # nested as deep as the API takes it, and looked at from further down
        return content


def _time(text: str) -> int | None:
    if not text:
        return None
    try:
        seconds = int(datetime.strptime(text, _UTC).replace(tzinfo=UTC).timestamp())
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= TIME_MAX:
        raise mistake("timeout_time", "a time in UTC such as 2026-12-31 23:59:59")
    return seconds
