"""One log line a request; never a payload."""

import time

import structlog
from falcon import Request, Response

_log = structlog.get_logger(component="access")


class AccessLog:
    """Falcon middleware: method, path, status, duration, the service and the queue."""

    def process_request(self, req: Request, _resp: Response) -> None:
        """Notes when the request came."""
        req.context.began = time.perf_counter()

    def process_response(
        self, req: Request, resp: Response, _resource: object, _succeeded: bool
    ) -> None:
        """Logs the request once its answer is known; a streamed list is still to be sent."""
        now = time.perf_counter()
        # Falcon refuses the method WEBSOCKET before it calls `process_request`.
        began = getattr(req.context, "began", now)
        _log.info(
            "request",
            method=req.method,
            path=req.path,
            status=resp.status_code,
            ms=round((now - began) * 1000, 2),
            service=req.context.get("service"),
            queue=req.env.get("HTTP_X_QUEUE"),
        )
