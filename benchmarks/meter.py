"""What a job costs PostgreSQL and a server: time of the CPU, and bytes of the log."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

_STORED = "SELECT pg_total_relation_size('job') / greatest(count(*), 1) FROM job"
_TICKS = os.sysconf("SC_CLK_TCK")


class Meter:
    """Reads the costs of all that happens between its making and `note`."""

    def __init__(self, port: int, server: int) -> None:
        """`port` of a PostgreSQL on this machine, `server` the pid of a JobEngine."""
        self._connection: Any = import_module("psycopg").connect(
            host="127.0.0.1", port=port, user="postgres", dbname="postgres", autocommit=True
        )
        self._postmaster = _stat(self._connection.info.backend_pid)[1]
        self._server = server
        self._before = self._read()

    def note(self, jobs: float) -> str:
        """What each of that many jobs cost."""
        database, server, log = (
            now - before for now, before in zip(self._read(), self._before, strict=True)
        )
        (size,) = self._value(_STORED)
        self._connection.close()
        return (
            f"a job: {database / jobs * 1e6:.0f} µs of PostgreSQL, {server / jobs * 1e6:.0f} µs of "
            f"the server, {log / jobs:,.0f} bytes of log; {size:,} bytes stored"
        )

    def _read(self) -> tuple[float, float, float]:
        (log,) = self._value("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")
        backends = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
        seconds = sum(
            seconds
            for pid in backends
            for own, parent, seconds in [_stat_or_nothing(pid)]
            if self._postmaster in (own, parent)
        )
        return seconds, _stat(self._server)[2], float(log)

    def _value(self, statement: str) -> Any:
        return self._connection.execute(statement).fetchone()


def _stat(pid: int) -> tuple[int, int, float]:
    """A process, its parent, and the seconds of CPU of both it and its children that ended.

    The fields are those of proc(5), from the third on.
    """
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text.rpartition(")")[2].split()
    return pid, int(fields[1]), sum(map(int, fields[11:15])) / _TICKS


def _stat_or_nothing(pid: int) -> tuple[int, int, float]:
    try:
        return _stat(pid)
    except OSError:  # it has ended
        return 0, 0, 0.0
