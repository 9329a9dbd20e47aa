"""The `jobengine` command, run to its end."""

import os
import subprocess
import sys

from tests.harness.server import CHECKOUT, SECRET, Server


def run(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Runs it in a process of its own, with the tests' SECRET unless `env` has another."""
    return _run(["jobengine", *arguments], env)


def run_beside(server: Server, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """As `run`, with the server's clock, database and config."""
    command = ["jobengine"]
    if server.clock_file is not None:
        command = ["tests.harness.launch", str(server.clock_file)]
    return _run([*command, *arguments], server.env | env)


def _run(words: list[str], env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *words],
        env={**os.environ, "SECRET": SECRET, **env},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
