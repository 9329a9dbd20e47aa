"""What the peers share: server processes, client processes, and what isn't installed."""

import multiprocessing
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier, BrokenBarrierError

PAYLOAD = b'{"job":"content"}'
CLIENTS = 4  # client processes, and worker processes, where a peer's client is Python
_START = 30.0  # seconds that a server or a client may take to be ready
_STOP = 10.0  # seconds that a process may take to end before it is killed
_POLL = 0.02  # seconds between two looks at how many jobs are left

# Does one job and gives how many are done by it: 0 when none is left.
Step = Callable[[], int]


def lacking(programs: Mapping[str, str], packages: Sequence[str] = ()) -> str | None:
    """What isn't installed of programs (name to Debian package) and Python packages."""
    wanted = [f"{name} (apt install {programs[name]})" for name in programs if not _on_path(name)]
    wanted += [f"{name} (pip install {name})" for name in packages if find_spec(name) is None]
    return f"needs {' and '.join(wanted)}" if wanted else None


def _on_path(program: str) -> bool:
    return shutil.which(program) is not None


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """An empty directory in the folder, for one measurement; it is removed afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as name:
        yield Path(name)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether something listens on that port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def server(
    command: Sequence[str],
    log: Path,
    ready: Callable[[], bool],
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[None]:
    """Runs a server until the block ends, which begins once the server is ready.

    `stop` is the signal that ends it. Raises RuntimeError with what it printed when it
    doesn't become ready.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        _await(ready, process, log)
        yield
    finally:
        process.send_signal(stop)
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START
    while process.poll() is None and time.monotonic() < end:
        if ready():
            return
        time.sleep(_POLL)
    raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text(errors='replace')}")


def rate(begin: Callable[..., Step], seconds: float, *arguments: object) -> float:
    """Jobs a second, summed over CLIENTS processes that each take steps for that long.

    `begin`, of a module's top level, is called with the arguments in each process, to
    connect and to give the step; the time starts for all when the last one is ready.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(CLIENTS)
    with ProcessPoolExecutor(CLIENTS, context, _keep, (barrier,)) as pool:
        # A task waits at the barrier, so that each process takes exactly one.
        running = [pool.submit(_steps, begin, seconds, arguments) for _ in range(CLIENTS)]
    for each in running:  # the cause, before the others who waited for it in vain
        if not isinstance(each.exception(), BrokenBarrierError):
            each.result()
    return sum(each.result() for each in running)


_barriers: list[Barrier] = []  # the one of this client process: it can't come as an argument


def _keep(barrier: Barrier) -> None:
    _barriers.append(barrier)


def _steps(begin: Callable[..., Step], seconds: float, arguments: tuple[object, ...]) -> float:
    try:
        step = begin(*arguments)
        step()  # not counted: it opens what a client opens late
    except BaseException:
        _barriers[0].abort()
        raise
    _barriers[0].wait(_START)
    jobs, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        done = step()
        if not done:
            break
        jobs += done
    return jobs / max(elapsed, 1e-9)


@contextmanager
def workers(count: int, target: Callable[..., None], *arguments: object) -> Iterator[None]:
    """Runs that many processes, which are ended with the block.

    `target`, of a module's top level, gets the arguments, then a barrier to wait at for
    the others when it is ready.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count)
    processes = [context.Process(target=target, args=(*arguments, barrier)) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()  # what they work on is thrown away
        for process in processes:
            process.join()


def drain_rate(left: Callable[[], int], seconds: float) -> float:
    """Jobs a second that workers take from a queue, from the first one taken.

    Looks at how many are `left` until the time is up or none is. Raises RuntimeError
    when no worker takes one.
    """
    full, patience = left(), time.monotonic() + _START
    began = time.perf_counter()
    while (last := left()) == full:
        if time.monotonic() > patience:
            raise RuntimeError(f"no worker took any of {full} jobs")
        time.sleep(_POLL / 10)
        began = time.perf_counter()
    while last and time.perf_counter() - began < seconds:
        time.sleep(_POLL)
        last = left()
    return (full - last) / (time.perf_counter() - began)
