"""A log that cannot be written: nothing else depends on it, and what is lost is counted."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobengine.standard_error import StandardError
from tests.harness import CHECKOUT
from tests.harness.clock import FileClock
from tests.harness.disks import SmallDisk
from tests.harness.server import SECRET, STDERR, Server, free_port
from tests.harness.zygote import zygote
from tests.test_outages import ready
from tests.test_threads import until

CONFIG = "version: 1\nmetrics: ['*']\nqueues:\n  q: {read: ['*'], write: ['*']}\n"
MORE = f"{CONFIG}  r: {{read: ['*'], write: ['*']}}\n"


@pytest.mark.parametrize("http", ["waitress", "granian"])
@pytest.mark.parametrize("stderr", ["full", "closed"])
def test_calls_duties_and_reloads_go_on_though_nothing_can_be_logged(
    tmp_path: Path, database: dict[str, str], stderr: str, http: str
) -> None:
    clock = FileClock(tmp_path / "clock")
    arguments = ("--server", http)
    server = Server(tmp_path, CONFIG, clock_file=clock.path, arguments=arguments, **database)
    server.stderr_to = stderr  # type: ignore[assignment]  # one of its literals
    with server:
        api = server.api()
        kept, lapsing = api.made(), api.made(valid_for=5)
        assert api.next().json()["uid"] == kept["uid"]
        assert api.update(kept["uid"], status="complete").status == 200
        assert api.send("GET", "/no/such/path").status == 404
        clock.advance(6)
        metrics = 'jobengine_jobs_expired_total{queue="q"} 1.0'
        until(lambda: metrics in api.send("GET", "/metrics").body.decode())
        assert api.get(lapsing["uid"]).status == 404
        server.config.write_text("version: 1\nqueues: [mistake\n")
        server.process.send_signal(signal.SIGHUP)
        server.config.write_text(MORE)
        until_served(server, "r")
        assert ready(api).status == 200
        assert server.stop() == 0


def until_served(server: Server, queue: str) -> None:
    """Asks for a reload until the queue is there."""
    api = server.api(queue)

    def there() -> bool:
        server.process.send_signal(signal.SIGHUP)
        return api.create().status == 201

    until(there)


@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)])
def test_a_start_with_closed_streams_writes_to_no_file_or_connection(
    tmp_path: Path, closed: tuple[int, ...]
) -> None:
    """What is opened first would get their numbers, and be written to as stderr."""
    server = Server(tmp_path, CONFIG)

    def close() -> None:
        for number in closed:
            os.close(number)

    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobengine", "serve", "--port", str(port)],
        env=server.env | {"LOG_LEVEL": "debug"},
        cwd=CHECKOUT,
        preexec_fn=close,
    )
    server.process = process
    server.wait_for_port(port)
    connections = [server.http() for _ in range(5)]
    for http in connections:
        assert http.send("GET", "/readyz", {}, None).status == 200
        http.close()
    process.terminate()
    assert process.wait() == 0
    assert b'"event"' not in server.database.read_bytes()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "small", megabytes=4)
    yield disk
    disk.close()


@pytest.mark.skipif(STDERR is not None, reason="it looks at what the server logs")
def test_lost_lines_are_counted_and_told_once_the_log_works_again(
    tmp_path: Path, small: SmallDisk
) -> None:
    server = Server(tmp_path / "data", CONFIG)
    server.stderr_to = log = small.folder / "log"
    with server:
        api = server.api()
        small.fill()
        for _ in range(200):  # more than what is left of the file's last block has room for
            assert api.create().status == 201
        counted = api.send("GET", "/metrics").body.decode()
        small.free()
        assert api.create().status == 201
        assert server.stop() == 0
    lines = log.read_bytes().splitlines()
    events = [json.loads(line) for line in lines if line.endswith(b"}")]
    assert len(lines) - len(events) <= 1, "the one that the disk had no room for the rest of"
    (told,) = [event for event in events if event["event"] == "log lines were lost"]
    (lost,) = [
        line for line in counted.splitlines() if line.startswith("jobengine_log_lines_lost_total")
    ]
    assert told["lines"] == float(lost.split()[1]) + 1 > 100, "and that of /metrics itself"
    after = events[events.index(told) + 1 :]
    assert [event["event"] for event in after] == ["request", "database closed"]


class Pipe:
    """A pipe of one page that never blocks."""

    def __init__(self) -> None:
        self._reads, self.writes = os.pipe()
        os.set_blocking(self._reads, False)
        os.set_blocking(self.writes, False)

    def read(self) -> bytes:
        """All that was written."""
        found = b""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._reads, 1 << 16):
                found += data
        return found

    def fill(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.writes, b"x" * 4096)


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


def test_a_line_is_written_whole_or_counted(pipe: Pipe) -> None:
    stderr = StandardError(pipe.writes)
    stderr.line(b"one\n")
    assert pipe.read() == b"one\n"
    pipe.fill()
    for _ in range(3):
        stderr.line(b"lost\n")
    assert stderr.lost == 3
    pipe.read()
    stderr.line(b"two\n")
    stderr.line(b"three\n")
    assert pipe.read() == b"log lines lost: 3\ntwo\nthree\n"
    assert stderr.lost == 3


def test_what_follows_a_line_that_was_cut_off_begins_anew(pipe: Pipe) -> None:
    stderr = StandardError(pipe.writes)
    stderr.line(b"y" * (1 << 20) + b"\n")
    cut = pipe.read()
    assert cut == b"y" * len(cut)
    assert cut
    stderr.line(b"two\n")
    assert pipe.read() == b"\nlog lines lost: 1\ntwo\n"


def test_a_report_that_cannot_be_written_is_made_again(pipe: Pipe) -> None:
    stderr = StandardError(pipe.writes)
    pipe.fill()
    stderr.line(b"one\n")
    stderr.lose()
    stderr.line(b"two\n")
    pipe.read()
    stderr.line(b"three\n")
    assert pipe.read() == b"log lines lost: 3\nthree\n"


def test_messages_never_raise_and_are_no_log_lines() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    stderr = StandardError(writes)
    assert stderr.write(b"a message") == 9
    os.close(writes)
    assert stderr.write(b"a message") == 9
    assert stderr.lost == 0


_ODD = """
import logging, sys
import structlog
from jobengine import logs, standard_error

class Odd:
    def __repr__(self):
        raise RuntimeError
    __str__ = __repr__

standard_error.take_over()
logs.set_up("debug")
log = structlog.get_logger()
loop = []
loop.append(loop)
for name in ("debug", "info", "warning", "error", "critical", "exception"):
    for value in (Odd(), "\\udcff", 1 << 80, loop, {Odd(): 1}, object()):
        getattr(log, name)("event", value=value)
        getattr(logging.getLogger("library"), name)("message %s", value)
    log.info("event", **{"\\udcff": 1})
    logging.getLogger("library").error("%d %d", "no number")
log.info("the end", lost=logs.lines_lost())
"""


@pytest.mark.skipif(STDERR is not None, reason="it looks at what is logged")
def test_what_cannot_be_put_into_a_line_raises_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ODD], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert events[-1]["event"] == "the end"
    assert sum(event["event"] == "event" for event in events) == 6 * 6, "with what could be said"
    told = sum(event["lines"] for event in events if event["event"] == "log lines were lost")
    assert told == events[-1]["lost"] > 0
    assert done.stdout == ""


def exit_code(stdout: str, stderr: str, *arguments: str) -> int:
    """That of a command, each of whose streams goes to a file or to a pipe without a reader."""
    given = os.open(os.devnull, os.O_RDONLY)
    numbers = [given]
    for stream in (stdout, stderr):
        if stream == "closed":
            reads, writes = os.pipe()
            os.close(reads)
        else:
            writes = os.open(stream, os.O_WRONLY | os.O_CREAT, 0o600)
        numbers.append(writes)
    env = {**os.environ, "SECRET": SECRET}
    process = zygote().fork(list(arguments), env, None, (numbers[0], numbers[1], numbers[2]))
    for number in numbers:
        os.close(number)
    return process.wait()


@pytest.mark.parametrize("broken", ["/dev/full", "closed"])
def test_a_command_that_cannot_print_ends_with_1_and_its_messages_change_no_exit_code(
    tmp_path: Path, broken: str
) -> None:
    with Server(tmp_path, CONFIG) as server:
        database = str(server.database)
    words = ("verify", "--db", database)
    out, err = str(tmp_path / "out"), str(tmp_path / "err")
    assert exit_code(broken, err, *words) == 1
    assert "Traceback" not in Path(err).read_text()
    assert exit_code(out, broken, *words) == 0
    assert Path(out).read_text().endswith("nothing is damaged\n")
    assert exit_code(out, broken, "verify", "--nonsense") == 2
    assert exit_code(out, broken, "verify", "--db", str(tmp_path / "none")) == 1
    assert exit_code(broken, broken, "--help") == 1


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
def test_a_command_says_that_it_was_stdout_that_failed(redirection: str) -> None:
    command = f"exec {sys.executable} -m jobengine config check --config docs/example.yml"
    done = subprocess.run(
        ["sh", "-c", f"{command} {redirection}"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("jobengine: stdout cannot be written: ")


def test_the_end_that_a_signal_makes_is_no_error_of_a_library() -> None:
    script = (
        "import logging\nfrom jobengine import logs\nlogs.set_up('warning')\n"
        "for end in (SystemExit(143), ValueError('odd')):\n"
        "    try:\n        raise end\n"
        "    except BaseException:\n        logging.getLogger('pool').exception('failed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert "SystemExit" not in done.stderr
    assert "ValueError" in done.stderr
