"""The `jobengine` command: run to its end, or killed on its way there."""

import itertools
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

from tests.harness.server import SECRET, Server
from tests.harness.zygote import Forked, zygote

_AT_WORK = 3


def run(*arguments: str, stdin: str = "", **env: str) -> "CompletedProcess[str]":
    """Runs it, with the tests' SECRET unless `env` has another."""
    return start(*arguments, stdin=stdin, **env).result()


def run_beside(
    server: Server, *arguments: str, stdin: str = "", **env: str
) -> "CompletedProcess[str]":
    """As `run`, with the server's clock, database and config."""
    return _start(arguments, server.env | env, stdin, server.clock_file).result()


def start(*arguments: str, stdin: str = "", **env: str) -> "Command":
    """Starts it, to be waited for."""
    return _start(arguments, {"SECRET": SECRET, **env}, stdin, None)


class Kills:
    """Functions that start a command and kill it, spread over the time that it takes.

    A kill that came after the end shows that it takes less: what was timed met a busy machine.
    The next are spread over the less.
    """

    def __init__(self, number: int, action: Callable[[], object]) -> None:
        """The action is that command, run to its end.

        There are more kills than the number until some of them came `at_work`.
        """
        self.at_work = 0  # for those who kill to count up
        self._number = number
        begun = time.monotonic()
        action()
        self._took = time.monotonic() - begun

    def __iter__(self) -> Iterator[Callable[..., None]]:
        dice = random.Random(7)
        for n in itertools.count():
            if n >= self._number and self.at_work >= _AT_WORK:
                return
            assert n < 10 * self._number, "it is hardly ever killed at work"
            yield partial(self._kill, (n % self._number + dice.random()) / self._number)

    def _kill(self, share: float, *arguments: str, **env: str) -> None:
        command, begun = start(*arguments, **env), time.monotonic()
        with suppress(TimeoutExpired):
            command.process.wait(share * self._took)
            self._took = time.monotonic() - begun
        command.process.kill()
        done = command.result()
        assert done.returncode in (0, -9), done.stderr


class Command:
    """One that runs in a process of its own."""

    def __init__(self, arguments: tuple[str, ...], process: Forked, *printed: int) -> None:
        """`printed` are the files that its stdout and its stderr go to."""
        self.process = process
        self._arguments = arguments
        self._printed = printed

    def result(self) -> "CompletedProcess[str]":
        """What it came to, once it has ended."""
        code = self.process.wait()
        out, err = map(_read, self._printed)
        return CompletedProcess(self._arguments, code, out, err)


def _start(
    arguments: tuple[str, ...], env: dict[str, str], stdin: str, clock: Path | None
) -> Command:
    given, out, err = (_nameless() for _ in range(3))
    os.pwrite(given, stdin.encode(), 0)
    forks = zygote(env.get("LD_PRELOAD", ""))
    process = forks.fork(list(arguments), {**os.environ, **env}, clock, (given, out, err))
    os.close(given)
    return Command(arguments, process, out, err)


def _nameless() -> int:
    with tempfile.TemporaryFile() as made:
        return os.dup(made.fileno())


def _read(number: int) -> str:
    with os.fdopen(number, "rb") as printed:
        printed.seek(0)
        return printed.read().decode()
