"""The resources under /api/v1/jobs."""

from collections.abc import Callable, Iterator
from typing import ClassVar
from urllib.parse import urlencode

import falcon
import msgspec
import structlog
from falcon import Request, Response

from jobengine.api import problems, requests, wire
from jobengine.domain.errors import JobEngineError
from jobengine.domain.job import Job
from jobengine.domain.queue import Right
from jobengine.engine.jobs import Jobs
from jobengine.engine.listing import Listing
from jobengine.engine.permits import Caller, Permit

_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger(component="api")


class CreateJob:
    """PUT /api/v1/jobs/create."""

    takes_body = "PUT"

    def __init__(self, jobs: Jobs, max_body_bytes: int) -> None:
        self._jobs = jobs
        self._max_body_bytes = max_body_bytes

    def admit(self, req: Request) -> Permit:
        """Lets in who may send the body. Raises JobEngineError."""
        return self._jobs.authorise(requests.caller(req), Right.WRITE)

    def on_put(self, req: Request, resp: Response) -> None:
        """201 with the job, or with an array of them for an array of drafts."""
        permit = self.admit(req)
        body = requests.body(req, self._max_body_bytes)
        resp.status = falcon.HTTP_201
        if wire.is_array(body):
            resp.data = _encode(self._jobs.create(permit, wire.new_jobs(body), "/{}"))
        else:
            (job,) = self._jobs.create(permit, [wire.new_job(body)])
            resp.data = _encode(job)


class NextJob:
    """GET /api/v1/jobs/next, and no HEAD, which would claim a job for nobody."""

    parameters: ClassVar = {"GET": ("count", "wait")}

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def on_get(self, req: Request, resp: Response) -> None:
        """200 with the claimed job, or an array where a count was asked for; 204 without."""
        caller, count, wait = requests.caller(req), None, 0
        if req.query_string or "HTTP_PREFER" in req.env:
            count, wait = requests.count(req), requests.wait(req)
        claimed = self._jobs.claim(caller, count or 1, wait, _client_of(req))
        if claimed.jobs:
            resp.data = _encode(claimed.jobs[0] if count is None else claimed.jobs)
        else:
            resp.status = falcon.HTTP_204
            if claimed.turned_away:
                resp.set_header("Retry-After", str(problems.RETRY_AFTER_SECONDS))


def _client_of(req: Request) -> Callable[[], bool]:
    """Whether the client is still there, where the server can tell."""
    gone = req.env.get("waitress.client_disconnected")
    return (lambda: True) if gone is None else (lambda: not gone())


def _admit_update(jobs: Jobs, req: Request, most: int) -> tuple[Permit, int]:
    """Lets in who may update, with how many jobs to claim. Raises JobEngineError."""
    caller, count = requests.caller(req), requests.next_count(req, most)
    return jobs.authorise(caller, Right.READ if count else Right.EITHER), count


class OneJob:
    """GET, POST and DELETE /api/v1/jobs/{uid}."""

    takes_body = "POST"
    parameters: ClassVar = {"POST": ("next",)}

    def __init__(self, jobs: Jobs, max_body_bytes: int) -> None:
        self._jobs = jobs
        self._max_body_bytes = max_body_bytes

    def on_get(self, req: Request, resp: Response, uid: str) -> None:
        """200 with the job."""
        resp.data = _encode(self._jobs.get(requests.caller(req), requests.uid(uid)))

    on_head = on_get

    def admit(self, req: Request, **_params: str) -> tuple[Permit, int]:
        """Lets in who may send the body, with how many jobs to claim. Raises JobEngineError."""
        return _admit_update(self._jobs, req, 1)

    def on_post(self, req: Request, resp: Response, uid: str) -> None:
        """200 with the job as the update left it; with ?next=1 the next job, or 204."""
        permit, count = self.admit(req)
        changes = wire.changes(requests.body(req, self._max_body_bytes))
        if not count:
            resp.data = _encode(self._jobs.update(permit, requests.uid(uid), changes))
            return
        job = self._jobs.update_and_claim(permit, requests.uid(uid), changes)
        if job is None:
            resp.status = falcon.HTTP_204
        else:
            resp.data = _encode(job)

    def on_delete(self, req: Request, resp: Response, uid: str) -> None:
        """204."""
        self._jobs.delete(requests.caller(req), requests.uid(uid))
        resp.status = falcon.HTTP_204


class AllJobs:
    """GET and POST /api/v1/jobs."""

    takes_body = "POST"
    parameters: ClassVar = {"GET": ("limit", "cursor"), "POST": ("next",)}

    def __init__(self, jobs: Jobs, max_body_bytes: int) -> None:
        self._jobs = jobs
        self._max_body_bytes = max_body_bytes

    def admit(self, req: Request) -> tuple[Permit, int]:
        """As OneJob.admit."""
        return _admit_update(self._jobs, req, requests.CLAIM_MAX)

    def on_post(self, req: Request, resp: Response) -> None:
        """200 with what each update came to: the job, or a problem; and the jobs claimed."""
        permit, count = self.admit(req)
        updates = wire.uid_changes(requests.body(req, self._max_body_bytes))
        outcomes, claimed = self._jobs.update_many(permit, updates, count)
        updated = [
            problems.of(outcome) if isinstance(outcome, JobEngineError) else outcome
            for outcome in outcomes
        ]
        resp.data = _encode(wire.UpdatedAndClaimed(updated, claimed) if count else updated)

    def on_get(self, req: Request, resp: Response) -> None:
        """200 with the jobs by their position, streamed; 204 where there are none."""
        caller, state = requests.caller(req), requests.state_filter(req)
        limit, cursor = requests.page(req)
        listing = self._jobs.list(caller, state, limit, cursor)
        if not listing.first:
            listing.close()
            resp.status = falcon.HTTP_204
            return
        if listing.next_page is not None:
            query = urlencode({"limit": limit, "cursor": listing.next_page.text()})
            resp.append_link(f"{req.root_path}{req.path}?{query}", "next")
        stream = _Stream(listing, caller)
        if listing.ended:
            resp.data = b"".join(stream)  # with its length known, the connection stays open
            stream.close()
        else:
            resp.stream = stream

    def on_head(self, req: Request, resp: Response) -> None:
        """As `on_get`; a list that would be streamed is closed unread."""
        self.on_get(req, resp)
        if isinstance(resp.stream, _Stream):
            resp.stream.close()


class _Stream:
    """A list as JSON, a chunk at a time; closing it, begun or not, closes the list.

    Raises the JobEngineError of a chunk that cannot be read, or not by this caller any more:
    the server then ends the connection, or else the answer, which lacks its end.
    """

    def __init__(self, listing: Listing, caller: Caller) -> None:
        self._listing = listing
        self._caller = caller
        self._chunks = self._json()

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        """Called by the server at the end, and when the client has gone."""
        self._listing.close()

    def _json(self) -> Iterator[bytes]:
        index, jobs, opening = 0, self._listing.first, b"{"
        while jobs:
            yield opening + b",".join(
                b'"%d":%b' % (position, _encode(job)) for position, job in enumerate(jobs, index)
            )
            index, opening = index + len(jobs), b","
            jobs = self._next()
        yield b"}"

    def _next(self) -> list[Job]:
        try:
            return self._listing.chunk()
        except JobEngineError as error:
            service, queue = self._caller.service, self._caller.queue
            _log.warning("list broken off", service=service, queue=queue, reason=str(error))
            raise
