"""Every error that JobEngine raises on purpose.

JobEngineError
├── InvalidInput          what a client sent is not what was expected
├── Unauthenticated       no key or password, or none that is good
├── Forbidden             the service lacks the right on the queue
├── Misdirected           the call names another host than this server's
├── NotFound
│   ├── UnknownQueue      no queue of that name
│   ├── UnknownJob        no such job in the queue, or its time is over
│   ├── UnknownKey        no key of that id
│   └── UnknownUser       no user of that name
├── Conflict              what is there stands in the way
├── TooMany               more than the config lets a client have
│   ├── RateExceeded      the service calls too often, or a login failed too often
│   └── QueueFull         the queue holds as many jobs as it may
├── Unavailable           try again later; nothing was changed, but for OutcomeUnknown
│   ├── Busy              a bound on concurrent work is reached
│   ├── AnswerFull        the rest of a call's updates is to be sent again
│   ├── Stopping          the server is shutting down
│   ├── NotRunning        a part of the server does not run
│   ├── StoreFailed       the database could not commit
│   │   └── ContentDamaged  what is stored of a job's content does not open
│   └── OutcomeUnknown    the database or its disk failed while it committed
└── CannotStart           the server must not start
    ├── SecretMissing     no SECRET
    ├── CannotOpen        a wrong SECRET, or a database that is no store
    │   └── InUse         the database is another process's
    └── ConfigRefused     mistakes in the config, all of them listed
"""

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

# A body may have a hundred thousand mistakes, and a name a million characters: an error shows
# so many of them.
MISTAKES_MAX = 20
_SHOWN_MAX = 100


def cut(text: str) -> str:
    """What an error shows of a text that a client chose."""
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"


class JobEngineError(Exception):
    """The root; the message is fit to be shown to whoever made the call."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with what a client sent.

    `place` is a JSON pointer into the body, or a header's or parameter's name;
    `kind` says which: "pointer", "header" or "parameter".
    """

    kind: str
    place: str
    detail: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", cut(self.place))


class InvalidInput(JobEngineError):
    """What a client sent is not what was expected; nothing was changed."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        """Takes the first MISTAKES_MAX; a generator is not asked for more."""
        self.mistakes = tuple(islice(mistakes, MISTAKES_MAX))
        super().__init__("; ".join(f"{m.place or 'body'}: {m.detail}" for m in self.mistakes))


class Unauthenticated(JobEngineError):
    """No key or password was sent, or none that is good."""


class Forbidden(JobEngineError):
    """The service lacks the right on the queue."""


class Misdirected(JobEngineError):
    """The call names another host than this server's."""


class NotFound(JobEngineError):
    """What was named does not exist."""


class UnknownQueue(NotFound):
    """No queue has that name."""


class UnknownJob(NotFound):
    """No such job is in the queue, or its time is over."""


class UnknownKey(NotFound):
    """No key has that id."""


class UnknownUser(NotFound):
    """No user has that name."""


class Conflict(JobEngineError):
    """What is there stands in the way; nothing was changed."""


class TooMany(JobEngineError):
    """The client has as much as the config lets it have; nothing was changed.

    `retry_after` is after how many whole seconds it may try again.
    """

    def __init__(self, message: str, retry_after: int = 1) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class RateExceeded(TooMany):
    """The service calls too often, or a login failed too often."""


class QueueFull(TooMany):
    """The queue holds as many jobs as it may."""


class Unavailable(JobEngineError):
    """The call cannot be served now; try again later.

    Nothing was changed, but for OutcomeUnknown.
    """


class Busy(Unavailable):
    """A bound on concurrent work is reached."""


class AnswerFull(Unavailable):
    """An update's outcome has no room beside the others of its call."""


class Stopping(Unavailable):
    """The server is shutting down."""


class NotRunning(Unavailable):
    """A thread that the server needs does not run, or all of them in a process that was forked."""


class StoreFailed(Unavailable):
    """The database could not commit; the whole batch was undone."""


class ContentDamaged(StoreFailed):
    """What is stored of a job's content is not what was stored, or sealed with another SECRET."""


class OutcomeUnknown(Unavailable):
    """The database or its disk failed at the commit: all of the batch was done, or nothing."""


class CannotStart(JobEngineError):
    """The server must not start."""


class SecretMissing(CannotStart):
    """No SECRET was given."""


class CannotOpen(CannotStart):
    """The database cannot be opened: wrong SECRET, no store, or in use."""


class InUse(CannotOpen):
    """The database cannot be opened, since another process has it."""


class ConfigRefused(CannotStart):
    """The config, the environment or the command line has mistakes."""

    def __init__(self, source: str, mistakes: Sequence[str]) -> None:
        lines = "".join(f"\n  - {mistake}" for mistake in mistakes)
        super().__init__(f"{source} is refused:{lines}")
        self.mistakes = tuple(mistakes)


def reason(error: OSError) -> str:
    """What the system says is the case, with the error's name: `Permission denied (EACCES)`."""
    said = error.strerror or str(error) or type(error).__name__
    name = errno.errorcode.get(error.errno or 0)
    return f"{said} ({name})" if name else said
