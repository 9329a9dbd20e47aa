"""What keeps the SECRET in this process: no core file, no debugger, no trace in its environment.

docs/security.md says what this does not protect from.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Mapping

# prctl(2). Cores that core(5) pipes to a program are made whatever RLIMIT_CORE says, but
# not of a process that is not dumpable; nor may other processes of its user read its memory
# or /proc/PID/environ.
_PR_SET_DUMPABLE = 4
# What holds something secret. PGPASSWORD stays: libpq reads it at every connect.
_SECRETS = ("SECRET", "NEW_SECRET", "DATABASE_URL")
# Above what connections (http_server.py, granian_server.py) and databases need together; the
# usual soft limit of 1024 is not.
_FILES = 8192


def harden() -> None:
    """Forbids core files and debuggers other than root's, and raises the limit of open files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def take_environment() -> Mapping[str, str]:
    """The environment, of which the process itself keeps nothing secret.

    What is secret is overwritten where the kernel put it, which is what /proc/PID/environ
    shows, and no child process inherits it.
    """
    taken = dict(os.environ)
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    for name in _SECRETS:
        place = getenv(name.encode())
        if place:
            ctypes.memset(place, ord("x"), len(os.fsencode(taken[name])))
            del os.environ[name]
    return taken
