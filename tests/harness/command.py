"""The `jobengine` command: run to its end, or killed on its way there."""

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


def kills(number: int, action: Callable[[], object]) -> Iterator[Callable[..., None]]:
    """Functions that start a command and kill it, spread over the time that it takes.

    The action is that command, run to its end. A kill that came after the end shows that it
    takes less, since the action met a busy machine; the next are spread over the less.
    """
    begun = time.monotonic()
    action()
    took = time.monotonic() - begun

    def kill(share: float, *arguments: str, **env: str) -> None:
        nonlocal took
        command, begun = start(*arguments, **env), time.monotonic()
        with suppress(TimeoutExpired):
            command.process.wait(share * took)
            took = time.monotonic() - begun
        command.process.kill()
        done = command.result()
        assert done.returncode in (0, -9), done.stderr

    dice = random.Random(7)
    for n in range(number):
        yield partial(kill, (n + dice.random()) / number)


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
    process = zygote().fork(list(arguments), {**os.environ, **env}, clock, (given, out, err))
    os.close(given)
    return Command(arguments, process, out, err)


def _nameless() -> int:
    with tempfile.TemporaryFile() as made:
        return os.dup(made.fileno())


def _read(number: int) -> str:
    with os.fdopen(number, "rb") as printed:
        printed.seek(0)
        return printed.read().decode()
