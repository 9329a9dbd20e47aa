"""Who calls, settled before anything else is looked at."""

from falcon import Request, Response

from jobengine.engine.access import Access

# What says nothing but that the server is there, and what this version can do; a path that
# is not named needs a key.
OPEN = frozenset({"*", "/livez", "/readyz", "/api/v1/test", "/docs", "/docs/style.css"})
_SCHEME = "bearer "


class Authenticate:
    """Falcon middleware: notes the calling service as `req.context.service`.

    The id of its key is `req.context.key`.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    def process_request(self, req: Request, _resp: Response) -> None:
        """Raises Unauthenticated and Forbidden."""
        name = req.env.get("HTTP_X_NAME", "")
        context = req.context
        context.service, context.key = name, ""
        if req.path not in OPEN:
            context.service, context.key = self._access.identify(name, _bearer(req))


def _bearer(req: Request) -> str | None:
    """The key in the Authorization header (RFC 6750, section 2.1); None without one."""
    value: str = req.env.get("HTTP_AUTHORIZATION", "")
    if value[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return value[len(_SCHEME) :].strip(" ")
