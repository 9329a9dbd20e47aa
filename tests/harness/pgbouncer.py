"""A PgBouncer before a PostgreSQL of the tests, where it is installed."""

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from shutil import which
from typing import Self

import psycopg

from tests.harness.postgresql import free_port, own_folder, unprivileged

_START_SECONDS = 30
PROGRAM = which("pgbouncer") or which("pgbouncer", path="/usr/sbin")


class PgBouncer:
    """One that lends its sessions for a transaction, a session or a statement, by its mode."""

    def __init__(self, folder: Path, port: int, mode: str) -> None:
        """`port` is PostgreSQL's."""
        folder.mkdir()
        own_folder(folder)
        self.port = free_port()
        self._ini = folder / "pgbouncer.ini"
        self._ini.write_text(
            f"[databases]\n* = host=127.0.0.1 port={port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            f"unix_socket_dir =\nauth_type = any\npool_mode = {mode}\n"
        )

    def url(self, of: str) -> str:
        """The URL of a database through it, by its own."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{of.rpartition('/')[2]}"

    def __enter__(self) -> Self:
        command = [*unprivileged(), str(PROGRAM), "--quiet", str(self._ini)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise AssertionError("PgBouncer does not start")
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres").close()
        except psycopg.OperationalError:
            return False
        return True
