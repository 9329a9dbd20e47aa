"""Whether the server is there, alive, and ready."""

from typing import Literal, Protocol

import msgspec
from falcon import Request, Response


class Health(msgspec.Struct, frozen=True):
    """The answer where all is well."""

    status: Literal["ok"] = "ok"


_OK = msgspec.json.encode(Health())


class Readiness(Protocol):
    """Knows whether jobs can be served."""

    def check(self) -> None:
        """Raises Unavailable where they cannot."""


class Alive:
    """GET /api/v1/test and /livez: the process answers."""

    def on_get(self, _req: Request, resp: Response) -> None:
        """200."""
        resp.data = _OK

    on_head = on_get


class Ready:
    """GET /readyz: the database can be read and written."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    def on_get(self, _req: Request, resp: Response) -> None:
        """200, or 503 with the reason."""
        self._readiness.check()
        resp.data = _OK

    on_head = on_get
