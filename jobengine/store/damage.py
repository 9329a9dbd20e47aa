"""Remembers that a damaged page was met, so that a server says so however seldom it is."""

import structlog

from jobengine.domain.errors import StoreFailed
from jobengine.store.failures import cause, is_damage

_log = structlog.get_logger(component="store")


class Damage:
    """What a server met of it since its start. Calls that need no such page go on."""

    def __init__(self) -> None:
        self._met = False

    def note(self, error: BaseException | None) -> None:
        """Notes an error that the database raised, if it says that a page is damaged."""
        if error is None or self._met or not is_damage(error):
            return
        self._met = True
        _log.error(
            "the database is damaged: the server is not ready any more; run `jobengine verify`",
            reason=cause(error),
        )

    def check(self) -> None:
        """Raises StoreFailed where a damaged page was met."""
        if self._met:
            raise StoreFailed("the database is damaged: see `jobengine verify`")
