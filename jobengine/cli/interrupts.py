"""Signals that come while a command works, or while a server starts.

Process 1 of a container ignores a signal without a handler, and without one any other process
dies of it where it stands. So the handlers are installed before anything else is imported.
"""

import signal
from types import FrameType

_ASKED_TO_STOP = 0
_BY_SIGNAL = 128  # added to the number of the signal, as shells do


class Interrupts:
    """Ends a command by raising SystemExit, so that what it began is undone or let go of.

    Until a server serves, SIGTERM and SIGINT end it with 0, as later, and SIGHUP is kept for then.
    Other commands end with 128 and the number of the signal.
    """

    def __init__(self) -> None:
        self.serving = False
        # What came. Python drops an exception that is raised in a finalizer or a callback of C:
        # what is kept here is looked at again once the server serves.
        self.stop = self.reload = False

    def install(self, *, serving: bool) -> None:
        """Takes the signals; `serving` for the command that starts a server."""
        self.serving = serving
        if serving:
            signal.signal(signal.SIGHUP, self._keep)
        for number in (signal.SIGINT, signal.SIGTERM):
            # A shell ignores SIGINT for what it runs in the background.
            if serving or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._end)

    def ignore(self) -> None:
        """Nothing is left that they could end."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if self.serving and self.stop:
            return  # it is ending already
        self.stop = True
        raise SystemExit(_ASKED_TO_STOP if self.serving else _BY_SIGNAL + number)

    def _keep(self, _number: int, _frame: FrameType | None) -> None:
        self.reload = True


INTERRUPTS = Interrupts()
