"""Where the `jobengine` command begins: signals and stderr are seen to before all other imports."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobengine.cli.interrupts import INTERRUPTS

if TYPE_CHECKING:
    from jobengine.domain.clock import Clock


def main(arguments: Sequence[str] | None = None, clock: "Clock | None" = None) -> None:
    """Runs a command and exits with its code. Tests pass a clock of their own."""
    words = sys.argv[1:] if arguments is None else arguments
    INTERRUPTS.install(serving=list(words[:1]) == ["serve"])
    from jobengine import standard_error

    standard_error.take_over()
    try:
        from jobengine.cli.main import main as run

        run(words, clock)
    finally:
        INTERRUPTS.ignore()
        standard_error.finish_stdout()
