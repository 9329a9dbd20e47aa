"""The `jobengine` command in processes that need not import it first: many runs, and kills.

Each run is a process of its own, forked from one that has imported the command and no more.
So a kill falls into what the command does, and not into the start of Python.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, NoReturn, Self

from tests.harness.keys import Derived
from tests.harness.server import CHECKOUT, SECRET


class Forks:
    """Runs commands, one at a time."""

    def __init__(self, folder: Path) -> None:
        """`folder` is for what they print."""
        self._out, self._err = folder / "stdout", folder / "stderr"
        (folder / "keys").mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.forks", str(folder / "keys")],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **env: str) -> "CompletedProcess[str]":
        """Runs one to its end, with the tests' SECRET unless `env` has another."""
        self.start(*arguments, **env)
        code = self.wait()
        return CompletedProcess(arguments, code, self._out.read_text(), self._err.read_text())

    def killed(self, *arguments: str, after: float, **env: str) -> bool:
        """Runs one and kills it after so many seconds; whether it was still running."""
        pid = self.start(*arguments, **env)
        time.sleep(after)
        os.kill(pid, 9)  # not reaped yet: it is still this process
        code = self.wait()
        assert code in (0, -9), self._err.read_text()
        return code == -9

    def start(self, *arguments: str, **env: str) -> int:
        """Starts one, to be waited for; its process id."""
        order = {
            "arguments": arguments,
            "env": {"SECRET": SECRET, **env},
            "out": str(self._out),
            "err": str(self._err),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        """The exit code of what was started, or the signal that ended it, negative."""
        assert self._process.stdin is not None
        self._process.stdin.write("wait\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def spread(kills: int, action: Callable[[], object]) -> list[float]:
    """Moments, in seconds, at which to kill what the action does, all over its time."""
    begun = time.monotonic()
    action()
    took = time.monotonic() - begun
    dice = random.Random(7)
    return [took * (n + dice.random()) / kills for n in range(kills)]


def _serve() -> None:
    """Forks a command for each line of stdin, and tells how it ended."""
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            _become(order)
        _tell(pid)
        sys.stdin.readline()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        _tell(code)


def _tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _become(order: dict[str, Any]) -> NoReturn:
    from jobengine.cli.main import main

    os.environ |= order["env"]
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    for number, name in ((1, "out"), (2, "err")):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(order[name], flags), number)
    code = 1
    try:
        main(order["arguments"])
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    import jobengine.cli.main
    import jobengine.store.copies
    import jobengine.store.integrity
    import jobengine.store.sealed_check
    import jobengine.store.sealed_rekey

    assert jobengine.store.copies
    hashlib.pbkdf2_hmac = Derived(Path(sys.argv[1]))  # type: ignore[assignment]
    _serve()
