"""The resources /api/v1/openapi.json and /docs."""

from functools import cache
from importlib import resources

import msgspec
from falcon import Request, Response

from jobengine.engine.access import Access

# Nothing from elsewhere, no script, no style but the stylesheet, in nobody's frame.
_POLICY = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


class Description:
    """GET /api/v1/openapi.json."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def on_get(self, req: Request, resp: Response) -> None:
        """200 with the document, as the config asks for keys or not."""
        resp.data = _document(keys=self._access.wants_keys, base=req.root_path)

    on_head = on_get


class DescriptionPage:
    """GET /docs, for everybody: it has nothing that is not in the product's documentation."""

    page = True

    def __init__(self, access: Access) -> None:
        self._access = access

    def on_get(self, req: Request, resp: Response) -> None:
        """200 with the page."""
        resp.content_type = "text/html; charset=utf-8"
        resp.set_header("Content-Security-Policy", _POLICY)
        resp.set_header("Referrer-Policy", "no-referrer")
        resp.data = _page(keys=self._access.wants_keys, base=req.root_path)

    on_head = on_get


class DescriptionStyle:
    """GET /docs/style.css."""

    page = True

    def on_get(self, _req: Request, resp: Response) -> None:
        """200 with the stylesheet of the page."""
        resp.content_type = "text/css; charset=utf-8"
        resp.data = _style()

    on_head = on_get


# Made at the first request: apispec and Jinja2 take longer to import than a start may.
@cache
def _document(*, keys: bool, base: str) -> bytes:
    from jobengine.api.description.document import build

    return msgspec.json.encode(build(keys=keys, base=base))


@cache
def _page(*, keys: bool, base: str) -> bytes:
    from jobengine.api.description.document import build
    from jobengine.api.description.page import render

    return render(build(keys=keys, base=base)).encode()


@cache
def _style() -> bytes:
    return resources.files(__package__).joinpath("templates", "style.css").read_bytes()
