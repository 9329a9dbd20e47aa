"""The pages of the system: what runs on what, and the audit trail."""

from falcon import Request, Response

from jobengine.domain.clock import Clock
from jobengine.domain.user import Role
from jobengine.engine.audit import Audit
from jobengine.engine.system import System
from jobengine.engine.users import Users
from jobengine.web import forms, render
from jobengine.web.render import url

_PAGE = 100


class SystemPage:
    """GET /system; the config, the keys and the users for admins alone."""

    def __init__(self, system: System, users: Users, clock: Clock) -> None:
        self._system = system
        self._users = users
        self._clock = clock

    def on_get(self, req: Request, resp: Response) -> None:
        """200 with the system as it is."""
        admin = req.context.visitor.role.at_least(Role.ADMIN)
        render.page(
            req,
            resp,
            "system.html",
            report=self._system.report(),
            admin=admin,
            keys=self._system.keys() if admin else [],
            users=self._users.all() if admin else [],
            now=self._clock.now(),
        )

    on_head = on_get


class AuditPage:
    """GET /audit, for admins."""

    needs = Role.ADMIN

    def __init__(self, audit: Audit, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock

    def on_get(self, req: Request, resp: Response) -> None:
        """200 with entries of the trail, the newest first."""
        before = forms.query(req).integer("before", 1, 2**63 - 1)
        entries = self._audit.entries(0, before, _PAGE)
        whole = len(entries) == _PAGE and entries[-1].id > 1
        render.page(
            req,
            resp,
            "audit.html",
            entries=entries,
            older=url("/audit", before=entries[-1].id) if whole else "",
            now=self._clock.now(),
        )

    on_head = on_get
