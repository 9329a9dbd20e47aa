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
from typing import Any, Self

from tests.harness import CHECKOUT
from tests.harness.client import Api, HttpTransport
from tests.harness.zygote import Forked, available, zygote

SECRET = "a secret for tests"  # noqa: S105  that is all it opens
_START_SECONDS = 30


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
        self._arguments = ["serve", "--port", "0", *arguments]
        self.cwd = CHECKOUT
        self.file_size_limit: int | None = None  # bytes: a disk that is full for it
        self.executed = False  # whether it starts as by a shell, environment and all
        self.cores = False  # whether its parent lets it leave core files
        self.process: Forked | subprocess.Popen[str]
        self.log: list[dict[str, Any]] = []
        self.stderr = ""
        self.port = 0
        self._transports: list[HttpTransport] = []

    def start(self) -> Self:
        """Waits until it listens; fails with what it printed where it does not."""
        self.launch()
        while True:
            event = self._events.get(timeout=_START_SECONDS)
            if event is None:
                raise AssertionError(f"the server ended with {self.process.wait()}: {self.stderr}")
            if event.get("event") == "listening":
                self.port = int(event["urls"][0].rpartition(":")[2])
                return self

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
        self.process = self._forked() if self._as_usual() else self._executed()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _as_usual(self) -> bool:
        limited = self.file_size_limit is not None or self.cores
        return available and not self.executed and not limited and self.cwd == CHECKOUT

    def _forked(self) -> Forked:
        with _starting:
            forks = zygote(self.env.get("LD_PRELOAD", ""))
        return forks.serve(self._arguments, self.env, self.clock_file)

    def _executed(self) -> "subprocess.Popen[str]":
        module = ["jobengine"]
        if self.clock_file is not None:
            module = ["tests.harness.launch", str(self.clock_file)]
        return subprocess.Popen(
            [sys.executable, "-m", *module, *self._arguments],
            env=self.env,
            stderr=subprocess.PIPE,
            text=True,
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

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.stderr += line
            if line.startswith("{"):
                event = json.loads(line)
                self.log.append(event)
                self._events.put(event)
        self.process.stderr.close()
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
        raise AssertionError(f"nothing listens: {self.stderr}")

    def wait_for(self, event: str, **fields: Any) -> dict[str, Any]:
        """Waits for an event that has yet to be read; gives it."""
        while True:
            seen = self._events.get(timeout=_START_SECONDS)
            if seen is None:
                raise AssertionError(f"the server ended without {event!r}: {self.stderr}")
            if seen.get("event") == event and fields.items() <= seen.items():
                return seen

    def result(self) -> tuple[int, str]:
        """The exit code and all of stderr, once it has ended."""
        code = self.process.wait(timeout=_START_SECONDS)
        self._ended()
        return code, self.stderr

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal; gives the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.result()[0]

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
