"""Whether a call's body is worth reading, by its head alone."""

from typing import Any

import falcon
from falcon import Request, Response
from falcon.routing import CompiledRouter

from jobengine.api.authentication import Authenticate
from jobengine.domain.errors import JobEngineError
from jobengine.engine.access import Access
from jobengine.engine.hosts import Hosts


class Admission:
    """Asks of a head what the application asks before it reads a body.

    So where the answer is no, the application refuses the call, or has no use for a body.
    """

    def __init__(
        self, router: CompiledRouter, hosts: Hosts, access: Access, max_body_bytes: int
    ) -> None:
        self._router = router
        self._hosts = hosts
        self._authenticate = Authenticate(access)
        self._max_body_bytes = max_body_bytes

    def wants_body(self, env: dict[str, Any]) -> bool:
        """Whether the application reads the body of the call with this WSGI environment."""
        req = Request(env)
        try:
            self._hosts.check(env.get("HTTP_HOST", ""))
            self._authenticate.process_request(req, Response())
            found: Any = self._router.find(req.path, req)
            if found is None or getattr(found[0], "takes_body", None) != req.method:
                return False
            resource, _, params, _ = found
            resource.admit(req, **params)
            length = req.content_length or 0
        except (JobEngineError, falcon.HTTPError):
            return False
        return length <= self._max_body_bytes
