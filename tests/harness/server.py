"""A real server process."""

import contextlib
import json
import os
import queue
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal, Self

import pytest

from tests.harness import CHECKOUT
from tests.harness.client import Api, HttpTransport
from tests.harness.zygote import Forked, available, zygote

SECRET = "a secret for tests"  # noqa: S105  that is all it opens
_START_SECONDS = 30
# What the stderr of all servers is: "full" and "closed" run tests with one that takes nothing.
STDERR: Any = os.environ.get("JOBENGINE_TEST_STDERR") or None


_starting = threading.Lock()


class Server:
    """`jobengine serve` in a folder of its own, on a port of its own.

    With a clock file it runs on the clock of that file, otherwise on the system's.
    """

    def __init__(
        self,
        folder: Path,
        config: str | None = None,
        *,
        clock_file: Path | None = None,
        arguments: tuple[str, ...] = (),
        **env: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config = folder / "config.yml"
        self.database = folder / "jobs.queuedb"
        self.clock_file = clock_file
        if config is not None:
            self.config.write_text(config, encoding="utf-8")
        self.env = {
            **{
                key: value
                for key, value in os.environ.items()
                if key not in ("DATABASE_URL", "GIN_MODE", "LOG_LEVEL")
            },
            "CONFIG_PATH": str(self.config),
            "DB_PATH": str(self.database),
            "SECRET": SECRET,
            **env,
        }
        self._options = arguments
        # What its stderr is, if not a pipe that is read here: a file, or a broken one.
        self.stderr_to: Path | Literal["full", "closed"] | None = STDERR
        self.cwd = CHECKOUT
        self.file_size_limit: int | None = None  # bytes: a disk that is full for it
        self.executed = False  # whether it starts as by a shell, environment and all
        self.cores = False  # whether its parent lets it leave core files
        self.process: Forked | subprocess.Popen[bytes]
        self._log: list[dict[str, Any]] = []
        self._stderr = ""
        self.port = 0
        self._transports: list[HttpTransport] = []

    def start(self) -> Self:
        """Waits until it listens; fails with what it printed where it does not."""
        self.launch()
        if self.stderr_to is not None:
            self.wait_for_port(self.port)
            return self
        while True:
            event = self._events.get(timeout=_START_SECONDS)
            if event is None:
                raise AssertionError(f"the server ended with {self.process.wait()}: {self._stderr}")
            if event.get("event") == "listening":
                self.port = int(event["urls"][0].rpartition(":")[2])
                return self

    @property
    def log(self) -> list[dict[str, Any]]:
        """The events that it logged."""
        self._needs_the_log()
        return self._log

    @property
    def stderr(self) -> str:
        """What it printed."""
        self._needs_the_log()
        return self._stderr

    def _needs_the_log(self) -> None:
        if self.stderr_to is not None:
            pytest.skip("it looks at what the server prints, which is sent elsewhere")

    def api(self, queue: str = "q", service: str = "both") -> Api:
        """A client with a connection of its own, closed when the server ends."""
        return Api(self.http(), queue, service)

    def http(self) -> HttpTransport:
        """A connection, closed when the server ends."""
        self._transports.append(HttpTransport(self.port))
        return self._transports[-1]

    def launch(self) -> None:
        """Starts the process and does not wait."""
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.port = 0 if self.stderr_to is None else free_port()
        arguments = ["serve", "--port", str(self.port), *self._options]
        printed, theirs = self._printed()
        launch = self._forked if self._as_usual() else self._executed
        self.process = launch(arguments, theirs)
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, args=(printed,), daemon=True)
        self._reader.start()

    def _printed(self) -> tuple[int, int]:
        """Where its stderr is read, and where it is written."""
        printed, theirs = os.pipe()
        if self.stderr_to is None:
            return printed, theirs
        if self.stderr_to == "closed":
            nobody, broken = os.pipe()
            os.close(nobody)
        else:
            path = Path("/dev/full") if self.stderr_to == "full" else self.stderr_to
            broken = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.close(theirs)
        return printed, broken

    def _as_usual(self) -> bool:
        limited = self.file_size_limit is not None or self.cores
        return available and not self.executed and not limited and self.cwd == CHECKOUT

    def _forked(self, arguments: list[str], stderr: int) -> Forked:
        with _starting:
            forks = zygote(self.env.get("LD_PRELOAD", ""))
        return forks.serve(arguments, self.env, self.clock_file, stderr)

    def _executed(self, arguments: list[str], stderr: int) -> "subprocess.Popen[bytes]":
        module = ["jobengine"]
        if self.clock_file is not None:
            module = ["tests.harness.launch", str(self.clock_file)]
        return subprocess.Popen(
            [sys.executable, "-m", *module, *arguments],
            env=self.env,
            stderr=stderr,
            cwd=self.cwd,
            preexec_fn=self._limit if self.file_size_limit or self.cores else None,
        )

    def _limit(self) -> None:
        if self.cores:
            most = resource.getrlimit(resource.RLIMIT_CORE)[1]
            resource.setrlimit(resource.RLIMIT_CORE, (most, most))
        if self.file_size_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_size_limit, self.file_size_limit))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def _read(self, printed: int) -> None:
        with os.fdopen(printed, encoding="utf-8") as lines:
            for line in lines:
                self._stderr += line
                if line.startswith("{"):
                    event = json.loads(line)
                    self._log.append(event)
                    self._events.put(event)
        self._events.put(None)

    def wait_for_port(self, port: int) -> None:
        """Waits until something listens there, for a server that logs nothing."""
        self.port, deadline = port, time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.05)
                    break
            else:
                return
        raise AssertionError(f"nothing listens: {self._stderr}")

    def wait_for(self, event: str, **fields: Any) -> dict[str, Any]:
        """Waits for an event that has yet to be read; gives it."""
        self._needs_the_log()
        while True:
            seen = self._events.get(timeout=_START_SECONDS)
            if seen is None:
                raise AssertionError(f"the server ended without {event!r}: {self._stderr}")
            if seen.get("event") == event and fields.items() <= seen.items():
                return seen

    def result(self) -> tuple[int, str]:
        """The exit code and all of stderr, once it has ended."""
        code = self._wait()
        return code, self.stderr

    def _wait(self) -> int:
        code = self.process.wait(timeout=_START_SECONDS)
        self._ended()
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal; gives the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self._wait()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self._ended()

    def _ended(self) -> None:
        self._reader.join()
        for transport in self._transports:
            transport.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
