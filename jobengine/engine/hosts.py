"""By which names the server may be called: against pages that rebind a name of theirs to it.

A browser lets a page of evil.example call evil.example, whatever address that name has by then.
So a server that believes who calls it, and is alone with its machine, looks at the name.
"""

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache

from jobengine.config.settings import Authentication, Settings
from jobengine.domain.errors import Misdirected, cut

# A name has at most 253 characters (RFC 1035), and a port five; a longer host is none of ours.
_HOST_MAX = 260
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::[0-9]*)?")


class Hosts:
    """Lets calls pass whose `Host` is a name of this machine, or of the config.

    Any passes where the config names none, unless `authentication` is none and the server
    listens on loopback.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        """`settings` gives those that are in force."""
        self._settings = settings
        self._loopback = False

    def listens_on(self, host: str) -> None:
        """Notes the address that the server listens on; without it, it may be any."""
        self._loopback = is_loopback(host)

    def check(self, host: str) -> None:
        """Raises Misdirected. A call without a host passes: browsers always send one."""
        settings = self._settings()
        if not host or (len(host) <= _HOST_MAX and _is_served(host, settings.hosts)):
            return
        if settings.hosts or (self._loopback and settings.authentication is Authentication.NONE):
            raise Misdirected(
                f"the host {cut(host)!r} is neither loopback nor under `hosts` in the config"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it; a name that is not localhost may be anything."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1000)
def _is_served(host: str, listed: frozenset[str]) -> bool:
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return False
    name = found[1].strip("[]")
    return name in listed or name.endswith(".localhost") or is_loopback(name)
