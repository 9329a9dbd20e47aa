"""How the contents of jobs lie in the table: as they are, or each sealed by itself."""

from collections.abc import Callable
from typing import Protocol

import structlog

from jobengine.domain.errors import ContentDamaged
from jobengine.domain.job import DAMAGED

_log = structlog.get_logger(component="store")


class Contents(Protocol):
    """Turns a job's content into what is stored, and back."""

    def seal(self, uid: bytes, content: bytes) -> bytes:
        """The content of the job, as it is stored."""

    def open(self, uid: bytes, sealed: bytes) -> bytes:
        """The content of the job, from what is stored.

        Raises ContentDamaged, and StoreFailed where it cannot find out.
        """


class Plain:
    """As they are, for a database that is encrypted as a whole."""

    def seal(self, _uid: bytes, content: bytes) -> bytes:
        """See Contents."""
        return content

    def open(self, _uid: bytes, sealed: bytes) -> bytes:
        """See Contents."""
        return sealed


def shown(contents: Contents, uid: bytes, read: Callable[[], bytes]) -> bytes:
    """The content of the job, from what is `read`; DAMAGED where it is that, which is logged.

    Raises StoreFailed where it cannot be found out.
    """
    try:
        return contents.open(uid, read())
    except ContentDamaged as error:
        _log.error("content damaged", reason=str(error))
        return DAMAGED
