"""The resources under /api/v1/queues."""

import falcon
import msgspec
from falcon import Request, Response

from jobengine.api import queue_wire, requests
from jobengine.domain.audit import Actor
from jobengine.engine.queue_admin import QueueAdmin

_encode = msgspec.json.Encoder().encode


class AllQueues:
    """GET /api/v1/queues."""

    def __init__(self, queues: QueueAdmin) -> None:
        self._queues = queues

    def on_get(self, req: Request, resp: Response) -> None:
        """200 with the queues that the caller may see, by name."""
        resp.data = _encode(self._queues.all(actor(req).name))

    on_head = on_get


class OneQueue:
    """GET, PUT and DELETE /api/v1/queues/{name}."""

    takes_body = "PUT"

    def __init__(self, queues: QueueAdmin, max_body_bytes: int) -> None:
        self._queues = queues
        self._max_body_bytes = max_body_bytes

    def on_get(self, req: Request, resp: Response, name: str) -> None:
        """200 with the queue."""
        resp.data = _encode(self._queues.get(actor(req).name, name))

    on_head = on_get

    def admit(self, req: Request, **_params: str) -> Actor:
        """The admin who sends the body. Raises JobEngineError."""
        caller = actor(req)
        self._queues.authorise(caller)
        return caller

    def on_put(self, req: Request, resp: Response, name: str) -> None:
        """201 with the queue where it is new, 200 where it was there."""
        caller = self.admit(req)
        draft = queue_wire.draft(name, requests.body(req, self._max_body_bytes))
        made, new = self._queues.put(caller, name, draft)
        resp.data = _encode(made)
        resp.status = falcon.HTTP_201 if new else falcon.HTTP_200

    def on_delete(self, req: Request, resp: Response, name: str) -> None:
        """204."""
        self._queues.delete(actor(req), name)
        resp.status = falcon.HTTP_204


class Pause:
    """POST /api/v1/queues/{name}/pause, or /resume."""

    def __init__(self, queues: QueueAdmin, *, paused: bool) -> None:
        self._queues = queues
        self._paused = paused

    def on_post(self, req: Request, resp: Response, name: str) -> None:
        """200 with the queue."""
        resp.data = _encode(self._queues.pause(actor(req), name, paused=self._paused))


class Purge:
    """POST /api/v1/queues/{name}/purge."""

    def __init__(self, queues: QueueAdmin) -> None:
        self._queues = queues

    def on_post(self, req: Request, resp: Response, name: str) -> None:
        """200 with the number of jobs deleted: those in the state of X-Status-Filter, or all."""
        deleted = self._queues.purge(actor(req), name, requests.state_filter(req))
        resp.data = _encode(queue_wire.Purged(deleted))


def actor(req: Request) -> Actor:
    """Who calls, and from where. Raises InvalidInput."""
    return Actor(requests.service(req), req.env.get("REMOTE_ADDR", ""))
