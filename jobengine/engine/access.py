"""Who calls, and whether they may administer."""

from collections.abc import Callable

from jobengine.config.settings import Authentication, Settings
from jobengine.domain.errors import Forbidden, Unauthenticated
from jobengine.domain.key import id_of
from jobengine.domain.queue import ANYONE
from jobengine.engine.keys import Keys

_NO_KEY = "expected the header Authorization: Bearer, with a key"


class Access:
    """What the config in force says of who may call."""

    def __init__(self, keys: Keys, settings: Callable[[], Settings]) -> None:
        """`settings` gives those that are in force."""
        self._keys = keys
        self._settings = settings

    @property
    def wants_keys(self) -> bool:
        """Whether a call must show a key."""
        return self._settings().authentication is Authentication.KEYS

    def identify(self, name: str, key: str | None) -> tuple[str, str]:
        """The name of the calling service and the id of its key, from what it sent of both.

        Without keys the name is believed, and there is no id. Raises Unauthenticated where
        there is no good key, and Forbidden where it is another service's.
        """
        if not self.wants_keys:
            return name, ""
        if key is None:
            raise Unauthenticated(_NO_KEY)
        service = self._keys.authenticate(key)
        if name and name != service:
            raise Forbidden(f"the key is of the service {service!r}, and X-Name names another")
        return service, id_of(key)

    def confirm(self, key_id: str) -> None:
        """Raises Unauthenticated where a call with the key of that id is let in no longer.

        "" is the id of none, with which calls are let in while no keys are asked for.
        """
        if self.wants_keys:
            if not key_id:
                raise Unauthenticated(_NO_KEY)
            self._keys.confirm(key_id)

    def administers(self, name: str) -> bool:
        """Whether the service of that name is one of the config's admins."""
        return name in self._settings().admins

    def may_read_metrics(self, service: str) -> bool:
        """Whether the service, which may be none, is named by `metrics` or one of the admins."""
        readers = self._settings().metrics
        return service in readers or ANYONE in readers or self.administers(service)

    def authorise_admin(self, name: str) -> None:
        """Raises Forbidden where the service of that name is none of the config's admins."""
        if not self.administers(name):
            raise Forbidden(f"{name!r} is none of the `admins` of the config")


class Granted:
    """Lets everybody administer: for callers whose role was looked at before."""

    def administers(self, _name: str) -> bool:
        """Always."""
        return True

    def authorise_admin(self, _name: str) -> None:
        """Never raises."""
