"""How often a service may call."""

from falcon import Request, Response

from jobengine.api.authentication import OPEN
from jobengine.domain.errors import RateExceeded
from jobengine.domain.queue import is_name
from jobengine.engine.rates import Rates, Usage


class Throttle:
    """Falcon middleware: counts the call, and tells its service where it stands.

    In the fields of draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4.
    """

    def __init__(self, rates: Rates) -> None:
        self._rates = rates

    def process_request(self, req: Request, resp: Response) -> None:
        """Raises RateExceeded."""
        service = req.context.service
        if not is_name(service) or req.path in OPEN:  # no name is refused, and not remembered
            return
        usage = self._rates.use(service)
        if usage is None:
            return
        resp.set_headers(_fields(usage))
        if usage.exceeded:
            raise RateExceeded(
                f"{service!r} may make {usage.calls} calls in {usage.seconds} s", usage.reset
            )


def _fields(usage: Usage) -> dict[str, str]:
    return {
        "RateLimit-Policy": f'"service";q={usage.calls};w={usage.seconds}',
        "RateLimit": f'"service";r={usage.remaining};t={usage.reset}',
    }
