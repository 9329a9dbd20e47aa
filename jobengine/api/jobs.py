"""The resources under /api/v1/jobs."""

from collections.abc import Iterator
from urllib.parse import urlencode

import falcon
import msgspec
from falcon import Request, Response

from jobengine.api import requests, wire
from jobengine.engine.jobs import Jobs
from jobengine.engine.listing import Listing

_encode = msgspec.json.Encoder().encode


class CreateJob:
    """PUT /api/v1/jobs/create."""

    def __init__(self, jobs: Jobs, max_body_bytes: int) -> None:
        self._jobs = jobs
        self._max_body_bytes = max_body_bytes

    def on_put(self, req: Request, resp: Response) -> None:
        """201 with the job."""
        caller = requests.caller(req)
        new = wire.new_job(requests.body(req, self._max_body_bytes))
        job = self._jobs.create(caller, new.content, new.valid_for, new.priority)
        resp.status = falcon.HTTP_201
        resp.data = _encode(job)


class NextJob:
    """GET /api/v1/jobs/next."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def on_get(self, req: Request, resp: Response) -> None:
        """200 with the claimed job, 204 where none is queued."""
        job = self._jobs.claim(requests.caller(req))
        if job is None:
            resp.status = falcon.HTTP_204
        else:
            resp.data = _encode(job)


class OneJob:
    """GET, POST and DELETE /api/v1/jobs/{uid}."""

    def __init__(self, jobs: Jobs, max_body_bytes: int) -> None:
        self._jobs = jobs
        self._max_body_bytes = max_body_bytes

    def on_get(self, req: Request, resp: Response, uid: str) -> None:
        """200 with the job."""
        resp.data = _encode(self._jobs.get(requests.caller(req), requests.uid(uid)))

    def on_post(self, req: Request, resp: Response, uid: str) -> None:
        """200 with the job as the update left it."""
        caller = requests.caller(req)
        changes = wire.changes(requests.body(req, self._max_body_bytes))
        resp.data = _encode(self._jobs.update(caller, requests.uid(uid), changes))

    def on_delete(self, req: Request, resp: Response, uid: str) -> None:
        """204."""
        self._jobs.delete(requests.caller(req), requests.uid(uid))
        resp.status = falcon.HTTP_204


class AllJobs:
    """GET /api/v1/jobs."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

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
            resp.append_link(f"{req.path}?{query}", "next")
        stream = _Stream(listing)
        if listing.ended:
            resp.data = b"".join(stream)  # with its length known, the connection stays open
            stream.close()
        else:
            resp.stream = stream


class _Stream:
    """A list as JSON, a chunk at a time; closing it, begun or not, closes the list."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
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
            jobs = self._listing.chunk()
        yield b"}"
