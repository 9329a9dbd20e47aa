"""Queues, the services that use them, and their rights."""

import re
from dataclasses import dataclass
from enum import Enum

ANYONE = "*"
# A hundred years.
MINUTES_MAX = 52_560_000
MAX_JOBS_MAX = 10**12
# Printable ASCII without the comma, which joins the values of a repeated header,
# and without a space at either end, which HTTP strips from a header.
NAME_PATTERN = r"^[\x21-\x2b\x2d-\x7e]([\x20-\x2b\x2d-\x7e]{0,198}[\x21-\x2b\x2d-\x7e])?$"
_NAME = re.compile(NAME_PATTERN)
NAME_RULE = "1–200 printable ASCII characters, no comma, no space at either end"


def is_name(text: str) -> bool:
    """Whether the text can be the name of a service or a queue (see NAME_RULE)."""
    return _NAME.fullmatch(text) is not None


class Right(Enum):
    """What a service wants to do with a queue."""

    READ = "read"
    WRITE = "write"
    EITHER = "read or write"


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as the engine uses it.

    `window` is how many seconds a job may be in progress without an update before
    it has failed; `keep` how many seconds a finished job is kept. `max_jobs` is how many
    may be queued or in progress, None for as many as come; a `paused` one hands out none.
    Where it is not `from_config`, it was made over HTTP.
    """

    id: int
    name: str
    readers: frozenset[str]
    writers: frozenset[str]
    window: int
    keep: int
    max_jobs: int | None = None
    paused: bool = False
    from_config: bool = True

    def allows(self, service: str, right: Right) -> bool:
        """Whether the service has the right on this queue."""
        read = service in self.readers or ANYONE in self.readers
        write = service in self.writers or ANYONE in self.writers
        if right is Right.READ:
            return read
        if right is Right.WRITE:
            return write
        return read or write
