"""What a call was let in by, asked again when what it waits for comes."""

import msgspec

from jobengine.domain.queue import Queue, Right
from jobengine.engine.access import Access
from jobengine.engine.queues import Queues, unknown_queue


class Caller(msgspec.Struct, frozen=True, gc=False):
    """Who calls, with the key of which id (none without keys), and on which queue, by its name."""

    service: str
    queue: str
    key: str = ""


class Permit:
    """A caller's right on a queue, for as long as its key, the right and the queue last."""

    __slots__ = ("_access", "_in_force", "_queues", "_right", "caller", "queue")

    def __init__(self, access: Access, queues: Queues, caller: Caller, right: Right) -> None:
        """Raises UnknownQueue and Forbidden; the key was looked at when the call came."""
        self._access = access
        self._queues = queues
        self.caller = caller
        self._in_force = queues.in_force
        self._right = right
        self.queue: Queue = queues.authorise(caller.service, caller.queue, right)

    def check(self) -> None:
        """Raises Unauthenticated, UnknownQueue and Forbidden where it has ended.

        A few look-ups in memory: the writer asks for each operation. Whatever takes a right
        away puts other queues in force.
        """
        caller = self.caller
        if self._queues.in_force is self._in_force and not self._access.wants_keys:
            return
        self._access.confirm(caller.key)
        there = self._queues.authorise(caller.service, caller.queue, self._right)
        if there.id != self.queue.id:  # deleted, and another made under its name
            raise unknown_queue(caller.queue)


class Permits:
    """Lets callers do something with a queue, by what is in force."""

    def __init__(self, access: Access, queues: Queues) -> None:
        self._access = access
        self._queues = queues

    def give(self, caller: Caller, right: Right) -> Permit:
        """The permit of a caller. Raises UnknownQueue and Forbidden."""
        return Permit(self._access, self._queues, caller, right)
