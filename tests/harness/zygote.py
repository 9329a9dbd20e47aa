"""Processes of `jobengine` that need not import Python's modules first.

One process imports them, and forks another for each that is asked for: most of the time that
it takes to start one, thousands of times, is that of the imports and of deriving keys. And a
kill falls into what the command does, not into the start of Python.
"""

import atexit
import contextlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from tests.harness import CHECKOUT, cheap

_ORDER_BYTES = 1 << 20
_CODE_BYTES = 8
available = hasattr(os, "pidfd_open") and hasattr(socket, "SOCK_SEQPACKET")


class Forked:
    """A process that the zygote forked; as subprocess.Popen has it."""

    def __init__(self, pid: int, ended: int) -> None:
        """`ended` is a file descriptor that its exit code can be read from."""
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        """The exit code, or the signal that ended it, negative; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("serve", timeout or 0)
            self.returncode = int(os.read(self._ended, _CODE_BYTES))
            os.close(self._ended)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)


@cache
def zygote(preload: str = "") -> "Zygote":
    """The one of this process, with a library preloaded or none; made when first asked for."""
    return Zygote(CHECKOUT, preload)


class Zygote:
    """The process that forks them."""

    def __init__(self, folder: Path, preload: str) -> None:
        self._asking = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = theirs.fileno()
        known = str(cheap.folder())
        command = [sys.executable, "-m", "tests.harness.zygote", str(number), known]
        env = os.environ | ({"LD_PRELOAD": preload} if preload else {})
        self._process = subprocess.Popen(command, cwd=folder, pass_fds=[number], env=env)
        theirs.close()
        atexit.register(self.close)

    def fork(
        self,
        arguments: list[str],
        env: dict[str, str],
        clock: Path | None,
        standard: tuple[int, int, int],
    ) -> Forked:
        """Runs `jobengine` with the arguments, in that environment and on that clock.

        `standard` are its stdin, stdout and stderr.
        """
        order = {"arguments": arguments, "env": env, "clock": None if clock is None else str(clock)}
        ended, their_ended = os.pipe()
        with self._asking:
            socket.send_fds(self._control, [json.dumps(order).encode()], [their_ended, *standard])
            pid = int(self._control.recv(_CODE_BYTES))
        os.close(their_ended)
        return Forked(pid, ended)

    def serve(
        self, arguments: list[str], env: dict[str, str], clock: Path | None, stderr: int
    ) -> Forked:
        """As `fork`, without a stdin, and with that stderr."""
        with Path(os.devnull).open() as nothing:
            return self.fork(arguments, env, clock, (nothing.fileno(), 1, stderr))

    def close(self) -> None:
        """Ends it; what it forked goes on."""
        self._control.close()
        self._process.wait()


def _serve(control: socket.socket) -> None:
    """Forks a process for each order, and writes down how each ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    selector.unregister(key.fd)
                    _reap(key.fd, *key.data)
                    continue
                data, fds, _, _ = socket.recv_fds(control, _ORDER_BYTES, 4)
                if not data:
                    return
                ended, *standard = fds
                pid = os.fork()
                if not pid:
                    selector.close()
                    control.close()
                    _become(json.loads(data), standard)
                for number in standard:
                    os.close(number)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, ended))
                control.send(b"%d" % pid)


def _reap(pidfd: int, pid: int, ended: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        os.write(ended, b"%d" % code)
    os.close(ended)
    os.close(pidfd)


def _become(order: dict[str, Any], standard: list[int]) -> NoReturn:
    from jobengine.cli.entry import main
    from tests.harness.clock import FileClock

    os.environ.clear()
    os.environ.update(order["env"])
    for number, given in enumerate(standard):
        os.dup2(given, number)
        os.close(given)
    sys.stdin = os.fdopen(0)
    if "RUN_AS" in os.environ:
        os.setgroups([])
        os.setuid(int(os.environ["RUN_AS"]))
    code = 1
    try:
        main(order["arguments"], order["clock"] and FileClock(Path(order["clock"])))
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0
    except BaseException:  # noqa: BLE001  printed, as Python does
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    import click._termui_impl as bars
    import falcon

    import jobengine.cli.main
    import jobengine.store.postgresql.check
    import jobengine.store.postgresql.database
    import jobengine.store.postgresql.rekey
    import jobengine.store.sqlcipher.copies
    import jobengine.store.sqlcipher.database
    import jobengine.store.sqlcipher.integrity

    assert jobengine.store.sqlcipher.copies
    assert bars  # imported by those who may not read this Python any more
    falcon.App()  # the first one of a process reads the machine's types of media
    cheap.make_cheap(Path(sys.argv[2]))
    _serve(socket.socket(fileno=int(sys.argv[1])))
