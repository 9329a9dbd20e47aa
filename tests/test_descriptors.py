"""Out of file descriptors: connections wait, the server says so, and goes on."""

import errno
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobengine.cli.accepting import PAUSE_SECONDS, Accepting
from jobengine.domain.clock import SystemSource
from tests.harness.command import run_beside
from tests.harness.server import STDERR, Server
from tests.test_threads import until

CONFIG = "version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n"


def limit(server: Server, spare: int) -> Callable[[], None]:
    """Leaves the process so many file descriptors more than it has; gives what takes that back."""
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    have = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  names alone
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (have + 1 + spare, before[1]))
    return lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, before) and None


@pytest.mark.skipif(STDERR is not None, reason="it looks at what the server logs")
@pytest.mark.skipif(
    not Path("/proc/self/fd").exists() or os.geteuid() != 0, reason="it needs root on Linux"
)
def test_a_server_out_of_file_descriptors_says_so_once_and_goes_on(tmp_path: Path) -> None:
    server = Server(tmp_path, CONFIG).start()
    assert server.api().create().status == 201  # which opens a connection to the database
    unlimited = limit(server, spare=3)
    crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
    said = server.wait_for("no connection can be accepted; they wait")
    assert said["reason"] == os.strerror(errno.EMFILE)
    commands = socket.socket(socket.AF_UNIX)
    commands.connect(f"{server.database}.sock")
    server.wait_for("no command can be heard; it is tried again")
    for one in (*crowd, commands):
        one.close()
    api = server.api()
    assert api.create().status == 201
    server.wait_for("connections are accepted again")
    unlimited()
    until(lambda: run_beside(server, "keys", "list").returncode == 0)
    assert server.stop() == 0
    events = [event["event"] for event in server.log]
    assert events.count("no connection can be accepted; they wait") == 1
    assert events.count("no command can be heard; it is tried again") == 1


class Elapsed(SystemSource):
    def __init__(self) -> None:
        self.now = 100.0

    def elapsed(self) -> float:
        return self.now


class Listener:
    """As waitress has it: a socket that is readable as long as somebody waits to be accepted."""

    def __init__(self) -> None:
        self.error: OSError | None = None
        self.tries = 0

    def accept(self) -> Any:
        self.tries += 1
        if self.error is not None:
            raise self.error
        return "a socket", "an address"

    def readable(self) -> bool:
        return True


NO_ROOM = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]


@pytest.mark.parametrize("name", NO_ROOM)
def test_a_listener_is_not_tried_again_before_the_pause_is_over(name: str) -> None:
    clock, listener = Elapsed(), Listener()
    Accepting(listener, clock)
    listener.error = OSError(getattr(errno, name), "no room")
    for after, tries in ((0.0, 1), (PAUSE_SECONDS - 0.01, 1), (0.01, 2), (PAUSE_SECONDS, 3)):
        clock.now += after
        for _ in range(100):  # turns of the loop
            if listener.readable():
                assert listener.accept() is None
        assert listener.tries == tries
    listener.error = None
    clock.now += PAUSE_SECONDS
    assert listener.readable()
    assert listener.accept() is not None
    assert listener.readable(), "it is over"


@pytest.mark.parametrize("name", ["ECONNABORTED", "EPROTO", "EPERM", "ENETDOWN"])
def test_an_error_of_one_connection_holds_up_no_other(name: str) -> None:
    listener = Listener()
    Accepting(listener, Elapsed())
    listener.error = OSError(getattr(errno, name), "it has gone")
    assert listener.accept() is None
    assert listener.readable()
