"""Disks that go wrong: one that fails on command, and a small one that fills up."""

import atexit
import errno
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

_SOURCE = Path(__file__).with_name("bad_disk.c")


class BadDisk:
    """A disk for a server process that fails its calls on command."""

    def __init__(self, folder: Path) -> None:
        """Skips the test where there is no C compiler, or no LD_PRELOAD."""
        self._orders = folder / "bad_disk_orders"
        self.env: Any = {"LD_PRELOAD": str(_library()), "BAD_DISK": str(self._orders)}

    def fail(self, call: str, name: str, ending: str) -> None:
        """Has the call ("fsync", "pwrite", "flock") fail from now on, with the named error."""
        ready = self._orders.with_suffix(".ready")
        ready.write_text(f"{call} {getattr(errno, name)} {ending}")
        ready.rename(self._orders)

    def mend(self) -> None:
        """Has nothing fail any more."""
        self._orders.unlink()


@cache
def _library() -> Path:
    compiler = shutil.which("cc")
    if compiler is None or not Path("/proc/self/fd").exists():
        pytest.skip("a disk that fails on command needs Linux and a C compiler")
    folder = Path(tempfile.mkdtemp(prefix="bad-disk-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = folder / "bad_disk.so"
    command: list[str | Path] = [
        compiler,
        "-shared",
        "-fPIC",
        "-O2",
        "-o",
        library,
        _SOURCE,
        "-ldl",
    ]
    subprocess.run(command, check=True)
    return library


class SmallDisk:
    """A file system of its own in memory, of a few megabytes."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        """Skips the test where it may not be mounted."""
        self.folder = folder
        folder.mkdir()
        options = f"size={megabytes}m,mode=0700"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        if mounted.returncode != 0:
            pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Leaves no room, not for another byte."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12):
                try:
                    while True:
                        os.write(file.fileno(), b"x" * size)
                except OSError as error:
                    assert error.errno == errno.ENOSPC  # noqa: PT017  written until it is full

    def free(self) -> None:
        """Makes room again."""
        self._filler.unlink()

    def close(self) -> None:
        """Unmounts it."""
        subprocess.run(["umount", "--lazy", self.folder], check=True)
