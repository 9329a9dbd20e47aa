"""The resource /api/v1/audit."""

from typing import ClassVar
from urllib.parse import urlencode

import msgspec
from falcon import Request, Response

from jobengine.api import requests
from jobengine.engine.access import Access
from jobengine.engine.audit import Audit

_encode = msgspec.json.Encoder().encode


class AuditTrail:
    """GET /api/v1/audit, for admins."""

    parameters: ClassVar = {"GET": ("since", "before", "limit")}

    def __init__(self, audit: Audit, access: Access) -> None:
        self._audit = audit
        self._access = access

    def on_get(self, req: Request, resp: Response) -> None:
        """200 with an array of entries, the newest first."""
        self._access.authorise_admin(requests.service(req))
        since, before, limit = requests.audit_page(req)
        entries = self._audit.entries(since, before, limit)
        resp.data = _encode(entries)
        if len(entries) == limit and entries[-1].id > 1:
            query = urlencode({"since": since, "before": entries[-1].id, "limit": limit})
            resp.append_link(f"{req.root_path}{req.path}?{query}", "next")

    on_head = on_get
