"""Disks that go wrong: one that fails on command, and a small one that fills up."""

import atexit
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest


class BadDisk:
    """A disk for a server process that fails its calls on command."""

    def __init__(self, folder: Path) -> None:
        """Skips the test where there is no C compiler, or no LD_PRELOAD."""
        self._orders = folder / "bad_disk_orders"
        self.env: Any = {"LD_PRELOAD": str(preloaded("bad_disk")), "BAD_DISK": str(self._orders)}

    def fail(self, call: str, name: str, ending: str) -> None:
        """Has the call ("fsync", "pwrite", "flock") fail from now on, with the named error."""
        ready = self._orders.with_suffix(".ready")
        ready.write_text(f"{call} {getattr(errno, name)} {ending}")
        ready.rename(self._orders)

    def mend(self) -> None:
        """Has nothing fail any more."""
        self._orders.unlink()


@cache
def preloaded(name: str) -> Path:
    """The library of a C file in this folder; skips the test where it cannot be preloaded."""
    compiler = shutil.which("cc")
    if compiler is None or not Path("/proc/self/fd").exists():
        pytest.skip("a disk that stands in for another needs Linux and a C compiler")
    folder = Path(tempfile.mkdtemp(prefix="preloaded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library, source = folder / f"{name}.so", Path(__file__).with_name(f"{name}.c")
    options: list[str | Path] = ["-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"]
    subprocess.run([compiler, *options], check=True)
    return library


def _mount(*arguments: str | Path) -> None:
    """Skips the test where nothing may be mounted."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


@contextmanager
def mounted_read_only(folder: Path, place: Path) -> Iterator[Path]:
    """The folder at another place, where nothing can be written.

    Skips the test where it may not be mounted.
    """
    place.mkdir()
    _mount("--bind", folder, place)
    try:
        _mount("-o", "remount,bind,ro", place)
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


class SmallDisk:
    """A file system of its own in memory, of a few megabytes."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        """Skips the test where it may not be mounted."""
        self.folder = folder
        folder.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", folder)
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
