"""Signals that come early: while a server starts, and in the middle of a command."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Databases
from tests.harness import CHECKOUT
from tests.harness.command import run, start
from tests.harness.server import SECRET, Server, free_port

CONFIG = "version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n"
MORE = f"{CONFIG}  r: {{read: ['*'], write: ['*']}}\n"
_PATIENCE_SECONDS = 20
# How many signals are spread over a start or a command.
_SIGNALS = 6

both = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def until_caught(pid: int, number: signal.Signals) -> None:
    """Waits until the process has a handler for the signal."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return  # it has ended
        (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
        if int(mask, 16) >> (number - 1) & 1:
            return
        assert time.monotonic() < deadline


def launched(server: Server, *before: str) -> "subprocess.Popen[str]":
    """The server's process, as a shell starts it, imports and all."""
    return subprocess.Popen(
        [*before, sys.executable, "-m", "jobengine", "serve", "--port", str(free_port())],
        env=server.env,
        cwd=CHECKOUT,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def start_seconds(tmp_path_factory: pytest.TempPathFactory) -> float:
    """About how long a start takes."""
    server = Server(tmp_path_factory.mktemp("timed"), CONFIG)
    process = launched(server)
    begun = time.monotonic()
    assert process.stderr is not None
    while "listening" not in process.stderr.readline():
        pass
    took = time.monotonic() - begun
    process.terminate()
    process.communicate()
    return took


@both
def test_a_signal_before_the_imports_ends_a_start_with_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    server = Server(tmp_path, CONFIG)
    process = launched(server)
    until_caught(process.pid, signal.SIGTERM)
    process.send_signal(number)
    printed = process.communicate()[1]
    assert (process.returncode, printed) == (0, "")
    assert not server.database.exists(), "it was before anything was done"


@pytest.mark.slow
@both
def test_a_signal_at_any_moment_of_a_start_ends_it_with_0(
    tmp_path: Path, number: signal.Signals, start_seconds: float
) -> None:
    for step in range(_SIGNALS):
        server = Server(tmp_path / str(step), CONFIG)
        process = launched(server)
        until_caught(process.pid, signal.SIGTERM)
        try:
            process.wait(step / (_SIGNALS - 1) * start_seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        printed = process.communicate()[1]
        assert (process.returncode, "Traceback" in printed) == (0, False), printed
        with server:  # what it had begun hinders nothing
            assert server.api().create().status == 201


def test_sighup_in_the_middle_of_a_start_is_a_reload_once_it_serves(
    tmp_path: Path, start_seconds: float
) -> None:
    server = Server(tmp_path, CONFIG)
    process = launched(server)
    until_caught(process.pid, signal.SIGTERM)
    for _ in range(_SIGNALS):
        process.send_signal(signal.SIGHUP)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(start_seconds / _SIGNALS)
    assert process.stderr is not None
    seen: list[str] = []
    while not {"listening", "config unchanged"} <= set(seen):
        line = process.stderr.readline()
        assert line, seen
        seen += [event for event in ("listening", "config unchanged") if event in line]
    process.terminate()
    process.communicate()
    assert process.returncode == 0


@both
def test_process_1_is_ended_by_a_signal_in_its_start(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The kernel keeps from it every signal that it has no handler for."""
    unshare = ["unshare", "--pid", "--fork"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], check=False).returncode
    ):
        pytest.skip("no process can be made process 1 here")
    process = launched(Server(tmp_path, CONFIG), *unshare)
    first = until_forked(process.pid)
    until_caught(first, signal.SIGTERM)
    os.kill(first, number)
    printed = process.communicate(timeout=_PATIENCE_SECONDS)[1]
    assert (process.returncode, printed) == (0, "")


def until_forked(pid: int) -> int:
    """The child of the process, once it runs Python."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children and b"jobengine" in Path(f"/proc/{children[0]}/cmdline").read_bytes():
            return int(children[0])
        assert time.monotonic() < deadline


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the database of a server that was stopped."""
    folder = tmp_path_factory.mktemp("home")
    with Server(folder, CONFIG) as server:
        for _ in range(20):
            server.api().made(content={"filler": "x" * 100_000})
    return folder


@both
def test_a_signal_is_the_exit_code_of_a_command(home: Path, number: signal.Signals) -> None:
    command = start("verify", "--db", str(home / "jobs.queuedb"))
    until_caught(command.process.pid, signal.SIGTERM)
    command.process.send_signal(number)
    done = command.result()
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert "Traceback" not in done.stderr


class Work:
    """A command on a copy of the database, and how to tell that nothing is half done."""

    def __init__(self, command: str, folder: Path, home: Path, databases: Databases) -> None:
        shutil.copytree(home, folder)
        shutil.copy(folder / "jobs.queuedb", folder / "saved")
        self._database = str(folder / "jobs.queuedb")
        rest = {
            "backup": ["--force", str(folder / "copy")],
            "restore": [str(folder / "saved")],
        }.get(command, [])
        if command == "move":
            rest = ["--to", databases.env("postgresql")["DATABASE_URL"]]
        self.words = (command, "--db", self._database, *rest)

    def check(self) -> None:
        """Exactly one SECRET opens the database, and all is in it."""
        old, new = (
            run("verify", "--db", self._database, SECRET=secret).stdout
            for secret in (SECRET, "new")
        )
        assert min(old, new) == ""
        assert "20 jobs in 1 queue(s): nothing is damaged" in max(old, new)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["backup", "restore", "rekey", "move", "verify"])
@both
def test_a_signal_in_the_middle_of_a_command_leaves_nothing_half_done(
    tmp_path: Path, home: Path, databases: Databases, command: str, number: signal.Signals
) -> None:
    begun = time.monotonic()
    whole = Work(command, tmp_path / "whole", home, databases)
    assert start(*whole.words, NEW_SECRET="new").result().returncode == 0
    took, cut = time.monotonic() - begun, 0
    for step in range(_SIGNALS):
        work = Work(command, tmp_path / str(step), home, databases)
        running = start(*work.words, NEW_SECRET="new")
        try:
            running.process.wait(step / _SIGNALS * took)
        except subprocess.TimeoutExpired:
            until_caught(running.process.pid, signal.SIGTERM)
            running.process.send_signal(number)
        done = running.result()
        assert done.returncode in (0, 128 + number), done.stderr
        assert "Traceback" not in done.stderr
        work.check()
        if done.returncode:
            cut += 1
            assert start(*work.words, NEW_SECRET="new").result().returncode in (0, 1)
            work.check()
    assert cut, "some came in the middle"
