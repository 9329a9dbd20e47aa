"""The `jobengine` command, run to its end."""

import os
import subprocess
import sys

from tests.harness.server import CHECKOUT, SECRET


def run(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Runs it in a process of its own, with the tests' SECRET unless `env` has another."""
    return subprocess.run(
        [sys.executable, "-m", "jobengine", *arguments],
        env={**os.environ, "SECRET": SECRET, **env},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
