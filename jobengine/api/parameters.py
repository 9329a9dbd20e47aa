"""Which parameters a query may have."""

from collections.abc import Mapping

from falcon import Request, Response

from jobengine.api import requests
from jobengine.api.authentication import OPEN


class KnownParameters:
    """Falcon middleware: refuses a parameter that the call does not take, whatever the call.

    A purge that was meant for a state must not take all, nor a claim one job for many. A
    resource names those that it takes in `parameters`, by the method. What is open to all takes
    anything: probes add what they like.
    """

    def process_resource(
        self, req: Request, _resp: Response, resource: object, _params: dict[str, object]
    ) -> None:
        """Raises InvalidInput."""
        if not req.query_string or req.path in OPEN:
            return
        method = "GET" if req.method == "HEAD" else req.method
        if hasattr(resource, f"on_{method.lower()}"):  # else it is a 405
            known: Mapping[str, tuple[str, ...]] = getattr(resource, "parameters", {})
            requests.check_parameters(req, *known.get(method, ()))
