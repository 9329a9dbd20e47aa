"""How far a long command has come: progress bars on stderr."""

import sys
from contextlib import ExitStack
from typing import Any, Self

import click


class Bars:
    """One bar after the other, each for as long as the same is being done; a Tell."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._label = ""
        self._bar: Any = None

    def __call__(self, label: str, done: int, of: int) -> None:
        """Shows that `done` of so many are done."""
        if label != self._label:
            self._stack.close()
            bar = click.progressbar(length=of, label=label, file=sys.stderr)
            self._label, self._bar = label, self._stack.enter_context(bar)
        self._bar.update(done - self._bar.pos)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
