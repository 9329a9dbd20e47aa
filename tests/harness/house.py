"""A server with a dashboard: users of every role, and queues to spare."""

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

from jobengine.domain.user import Role
from tests.harness.browser import Browser, add_user
from tests.harness.client import Api
from tests.harness.clock import FileClock
from tests.harness.server import Server

ODD = """odd/name?&<b>"'"""
MARKUP = "<script>alert(1)</script>"
_USERS = {
    "vic": (Role.VIEWER, False),
    "rev": (Role.VIEWER, True),
    "oz": (Role.OPERATOR, False),
    "ann": (Role.ADMIN, False),
}
# Of queues, for the tests of a server.
_SPARE = 200
_RIGHTS = "{read: ['*'], write: ['*']}"


def config() -> str:
    """One with queues to spare."""
    names = (ODD, MARKUP, *(f"queue{number}" for number in range(_SPARE)))
    return (
        "version: 1\nadmins: [admin]\n"
        "job_keep_minutes: 10000\njob_timeout_minutes: 10000\nqueues:\n"
        + "".join(f"  {json.dumps(name)}: {_RIGHTS}\n" for name in names)
        + "  brief: {read: ['*'], write: ['*'], job_timeout_minutes: 1}\n"
    )


@dataclass
class House:
    """vic may see, rev may reveal too, oz operates, and ann is an admin."""

    server: Server
    clock: FileClock
    _browsers: dict[str, Browser] = field(default_factory=dict)
    _names: Any = field(default_factory=itertools.count)

    def add_users(self) -> None:
        for name, (role, reveal) in _USERS.items():
            add_user(self.server, name, role, reveal=reveal)

    def browser(self, name: str) -> Browser:
        """A browser that somebody is logged in with."""
        if name not in self._browsers:
            browser = Browser(self.server.port)
            assert browser.log_in(name).status == 303
            self._browsers[name] = browser
        return self._browsers[name]

    def queue(self) -> Api:
        """A queue that no other test uses."""
        number = next(self._names)
        assert number < _SPARE, "raise _SPARE: the tests need more queues"
        return self.server.api(f"queue{number}")
