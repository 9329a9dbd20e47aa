"""A list of jobs, read a short chunk at a time, however slowly it is taken."""

import base64
import binascii
import struct
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from jobengine.domain.clock import Clock
from jobengine.domain.errors import InvalidInput, Mistake
from jobengine.domain.job import Job, State
from jobengine.engine.permits import Permit
from jobengine.store.reads import HEAD, Key, Reads, Slice

LIMIT_MAX = 1000
_CHUNK_ROWS = 500
_CHUNK_BYTES = 256 * 1024
_CURSOR = struct.Struct(">BQQ")


class Cursor(NamedTuple):
    """Where a page begins: after `after`, in a list that ends with the id `ceiling`."""

    after: Key
    ceiling: int

    def text(self) -> str:
        """The cursor as a client passes it back."""
        packed = _CURSOR.pack(*self.after, self.ceiling)
        return base64.urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """The cursor in the text. Raises InvalidInput where `text` made none."""
        try:
            packed = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
            priority, id_, ceiling = _CURSOR.unpack(packed)
        except (binascii.Error, ValueError, struct.error) as error:
            detail = "expected the cursor of an earlier answer's Link header"
            raise InvalidInput([Mistake("parameter", "cursor", detail)]) from error
        if max(id_, ceiling) > 2**63 - 1:
            raise InvalidInput([Mistake("parameter", "cursor", "it was not made by this server")])
        return cls(Key(priority, id_), ceiling)


class Listing:
    """The jobs of a queue in queue order, in chunks; not a snapshot.

    Jobs that are created after it began are left out, so it ends. No transaction
    outlives the reading of a chunk, and no chunk is read once the permit has ended. Close it:
    that lets another list be read.
    """

    def __init__(
        self,
        reads: Reads,
        clock: Clock,
        permit: Permit,
        state: State | None,
        limit: int | None,
        cursor: Cursor | None,
    ) -> None:
        """Reads the first chunk, so that `first` says whether there are any jobs."""
        self._reads = reads
        self._clock = clock
        self._permit = permit
        self._on_close: Callable[[], None] | None = None
        self.next_page: Cursor | None = None
        self._part: Slice | None = None
        ceiling = reads.ceiling() if cursor is None else cursor.ceiling
        part = Slice(permit.queue, state, HEAD if cursor is None else cursor.after, ceiling)
        self.first = self._page(part, limit)

    def _page(self, part: Slice, limit: int | None) -> list[Job]:
        """The first chunk of the first page that has jobs."""
        while True:
            self._part = self._bounded(part, limit)
            jobs = self.chunk()
            if jobs or self.next_page is None:
                return jobs
            # All of the page was claimed, deleted or over before it was read.
            part = msgspec.structs.replace(part, after=self.next_page.after)

    def _bounded(self, part: Slice, limit: int | None) -> Slice:
        """The slice cut to the first `limit` jobs; notes where the next page begins."""
        if limit is None:
            return part
        self.next_page = None
        keys = self._reads.keys(part, self._clock.now(), limit + 1)
        if len(keys) <= limit:
            return part
        self.next_page = Cursor(keys[limit - 1], part.ceiling)
        return msgspec.structs.replace(part, until=keys[limit - 1])

    @property
    def ended(self) -> bool:
        """Whether all chunks have been read."""
        return self._part is None

    def chunk(self) -> list[Job]:
        """The next jobs; empty at the end.

        Raises Unauthenticated, UnknownQueue and Forbidden where the caller may no longer read
        the queue.
        """
        while self._part is not None:
            self._permit.check()
            part = self._part
            jobs, after = self._reads.chunk(part, self._clock.now(), _CHUNK_ROWS, _CHUNK_BYTES)
            self._part = None if after is None else msgspec.structs.replace(part, after=after)
            if jobs:
                return jobs
        return []

    def on_close(self, call: Callable[[], None]) -> None:
        """Has the call made when the list is closed."""
        self._on_close = call

    def close(self) -> None:
        """Ends the list; a second call does nothing."""
        self._part = None
        if self._on_close is not None:
            self._on_close()
            self._on_close = None
