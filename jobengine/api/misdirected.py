"""Whether a call was meant for this server."""

from falcon import Request, Response

from jobengine.engine.hosts import Hosts


class CheckHost:
    """Falcon middleware: refuses calls to a name that is not this server's.

    `X-Forwarded-Host` is not believed: whoever calls can set it.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    def process_request(self, req: Request, _resp: Response) -> None:
        """Raises Misdirected."""
        self._hosts.check(req.env.get("HTTP_HOST", ""))
