"""Users of the dashboard: the commands, the roles, and what ends a session."""

import fcntl
import os
import runpy
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pytest
from argon2 import PasswordHasher

from jobengine.cli.administer import administer
from jobengine.config.environment import read_environment
from jobengine.domain.audit import Actor
from jobengine.domain.errors import Busy, RateExceeded, Unauthenticated
from jobengine.domain.user import Role, Visitor, is_password, is_user_name
from jobengine.engine import passwords
from jobengine.engine.administration import RemoveUser, SetPassword
from jobengine.engine.audit import Audit
from jobengine.engine.duties.end_sessions import EndSessions
from jobengine.engine.passwords import Verifier, hash_of, is_outdated
from jobengine.engine.sign_in import SESSION_SECONDS, SignIn
from jobengine.engine.users import Users
from jobengine.store.move import Move
from jobengine.store.tables import people
from jobengine.wsgi import Service
from tests.conftest import Databases, launch_in
from tests.harness import CHECKOUT, command
from tests.harness.browser import PASSWORD, Browser, add_user, password_hash
from tests.harness.clock import FileClock
from tests.harness.server import SECRET, Server

ME = Actor("me")
CONFIG = "version: 1\nqueues:\n  q: {read: [both], write: [both]}\n"


def users(
    server: Server, *arguments: str, password: str = PASSWORD
) -> "subprocess.CompletedProcess[str]":
    """Runs `jobengine users`, with a password to read."""
    return command.run("users", *arguments, stdin=f"{password}\nmore\n", **server.env)


@pytest.mark.parametrize("beside", [True, False], ids=["beside a server", "without one"])
def test_users_are_added_listed_and_removed(
    tmp_path: Path, database: dict[str, Any], beside: bool
) -> None:
    server = Server(tmp_path, CONFIG, **database)
    if beside:
        server.start()
    for arguments in (("ann", "--role", "admin"), ("bob", "--role", "viewer", "--reveal")):
        done = users(server, "add", *arguments, "--password-stdin")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    listed = users(server, "list").stdout.splitlines()
    assert [line.split()[:-2] for line in listed[1:]] == [
        ["ann", "admin"],
        ["bob", "viewer", "with", "reveal"],
    ]
    assert users(server, "remove", "bob").returncode == 0
    assert "bob" not in users(server, "list").stdout
    if not beside:
        server.start()
    browser = Browser(server.port)
    assert browser.log_in("bob").status == 401
    assert browser.log_in("ann").status == 303
    server.stop()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A database without a server, and with one user."""
    server = Server(tmp_path_factory.mktemp("alone"), CONFIG)
    add_user(server, "ann")
    return server


@pytest.mark.parametrize(
    ("arguments", "password", "code", "said"),
    [
        (("add", "a b", "--role", "admin"), PASSWORD, 2, "NAME"),
        (("add", "carl"), PASSWORD, 2, "--role"),
        (("add", "carl", "--role", "boss"), PASSWORD, 2, "--role"),
        (("add", "carl", "--role", "admin", "--reveal"), PASSWORD, 2, "--reveal"),
        (("add", "carl", "--role", "admin"), PASSWORD, 2, "no terminal"),
        (("add", "carl", "--role", "admin", "--password-stdin"), "x" * 11, 2, "12 characters"),
        (("passwd", "ann", "--password-stdin"), "x" * 1001, 2, "1,000 bytes"),
        (("passwd", "ann", "--password-stdin"), "x" * 9000, 2, "1,000 bytes"),
        (("add", "ann", "--role", "viewer", "--password-stdin"), PASSWORD, 1, "'ann' already"),
        (("passwd", "nobody", "--password-stdin"), PASSWORD, 1, "no user 'nobody'"),
        (("remove", "nobody"), "", 1, "no user 'nobody'"),
    ],
)
def test_a_mistake_is_told_on_stderr(
    alone: Server, arguments: tuple[str, ...], password: str, code: int, said: str
) -> None:
    done = users(alone, *arguments, password=password)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert not password or password not in done.stderr


@pytest.mark.parametrize("arguments", [("list",), ("remove", "ann")])
def test_only_a_new_user_makes_a_database(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = command.run("users", *arguments, DB_PATH=str(tmp_path / "typo.queuedb"))
    assert done.returncode == 1
    assert "is not there" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("second", [PASSWORD, "another password"], ids=["alike", "unlike"])
def test_a_terminal_is_asked_twice_and_shows_nothing(tmp_path: Path, second: str) -> None:
    server = Server(tmp_path, CONFIG)
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobengine", "users", "add", "ann", "--role", "admin"],
        env=server.env,
        cwd=CHECKOUT,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    with os.fdopen(master, "r+b", buffering=0) as terminal:
        seen = answer(terminal, "Password:", PASSWORD) + answer(terminal, "Repeat", second)
        if second != PASSWORD:
            # It asks again until both are alike.
            seen += answer(terminal, "Password:", PASSWORD) + answer(terminal, "Repeat", PASSWORD)
        assert process.wait(timeout=60) == 0
    assert PASSWORD not in seen
    assert second not in seen
    assert users(server, "list").stdout.count("ann") == 1


def answer(terminal: Any, prompt: str, line: str) -> str:
    """Waits for the prompt and gives the line; what was shown until then."""
    seen = ""
    while prompt not in seen or not seen.endswith(": "):
        seen += terminal.read(1).decode()
    terminal.write(f"{line}\n".encode())
    return seen


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("x" * 11, False),
        ("x" * 11 + "\0", False),
        ("x" * 12, True),
        ("é" * 12, True),
        ("x" * 1000, True),
        ("x" * 1001, False),
        ("é" * 501, False),
        ("", False),
    ],
)
def test_a_password_has_twelve_characters_and_at_most_1000_bytes(text: str, good: bool) -> None:
    assert is_password(text) is good


@pytest.mark.parametrize(
    ("text", "good"),
    [("a", True), ("ann@x.org", True), ("a" * 64, True), ("a" * 65, False), ("", False)]
    + [(text, False) for text in ("-a", ".a", "a b", "a\n", "a,b", "å", "root by command")],
)
def test_a_user_name_has_64_plain_characters_at_most(text: str, good: bool) -> None:
    assert is_user_name(text) is good


@pytest.mark.parametrize(
    ("role", "other", "does"),
    [
        (Role.VIEWER, Role.VIEWER, True),
        (Role.VIEWER, Role.OPERATOR, False),
        (Role.OPERATOR, Role.VIEWER, True),
        (Role.OPERATOR, Role.ADMIN, False),
        (Role.ADMIN, Role.OPERATOR, True),
    ],
)
def test_a_role_may_do_what_those_below_it_may(role: Role, other: Role, does: bool) -> None:
    assert role.at_least(other) is does
    assert Visitor("v", role).sees_contents is (role is not Role.VIEWER)


@pytest.fixture(scope="module", params=["sqlcipher", "postgresql"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> Iterator[Server]:
    """A server with a user of each role, named after it."""
    env: Any = databases.env(request.param)
    with Server(tmp_path_factory.mktemp("house"), CONFIG, **env) as server:
        for role in Role:
            add_user(server, role.value, role)
        yield server


def logged_in(server: Server, name: str) -> Browser:
    browser = Browser(server.port)
    assert browser.log_in(name).status == 303
    return browser


# What each page answers the roles from the one that it is for; the others get a 403.
ALLOWED = {
    ("GET", "/"): (Role.VIEWER, 200),
    ("GET", "/jobs?queue=q"): (Role.VIEWER, 200),
    ("GET", "/system"): (Role.VIEWER, 200),
    ("GET", "/audit"): (Role.ADMIN, 200),
    ("POST", "/jobs/act"): (Role.OPERATOR, 400),  # no queue is named
    ("POST", "/queue/pause"): (Role.ADMIN, 404),  # likewise
}


@pytest.mark.parametrize("role", list(Role))
def test_each_role_sees_and_does_what_it_may(house: Server, role: Role) -> None:
    browser = logged_in(house, role.value)
    for (method, path), (needed, status) in ALLOWED.items():
        page = browser.get(path) if method == "GET" else browser.post(path)
        expected = status if role.at_least(needed) else 403
        assert page.status == expected, (method, path, page.text)


def test_a_removed_user_is_out_at_once(house: Server) -> None:
    add_user(house, "leaver")
    browser = logged_in(house, "leaver")
    assert browser.get("/").status == 200
    administer(read_environment(house.env), RemoveUser(ME, "leaver"), None)
    assert browser.get("/").location == "/login?next=%2F"


def test_another_password_ends_the_sessions_of_that_user_alone(house: Server) -> None:
    add_user(house, "changer")
    changer, other = logged_in(house, "changer"), logged_in(house, "admin")
    changed = SetPassword(ME, "changer", hash_of("another long password"))
    administer(read_environment(house.env), changed, None)
    assert changer.get("/").status == 303
    assert other.get("/").status == 200
    assert changer.log_in("changer").status == 401
    assert changer.log_in("changer", "another long password").status == 303


def test_a_session_is_good_on_every_server_and_ends_on_all(
    tmp_path: Path, databases: Databases
) -> None:
    env: Any = databases.env("postgresql")
    with (
        Server(tmp_path / "one", CONFIG, **env) as one,
        Server(tmp_path / "two", CONFIG, **env) as two,
    ):
        add_user(one, "ann")
        add_user(one, "bob")  # or the pages would only say how to make the first one
        here = logged_in(one, "ann")
        there = Browser(two.port, cookies=here.cookies)
        assert (here.get("/").status, there.get("/").status) == (200, 200)
        administer(read_environment(two.env), RemoveUser(ME, "ann"), None)
        assert (here.get("/").status, there.get("/").status) == (303, 303)


class Bench:
    """A service in this process, and the use cases on its database."""

    def __init__(self, service: Service, clock: FileClock) -> None:
        parts = (service._writer, service._reads, clock, service._database)
        self.clock = clock
        self.service = service
        self.users = Users(*parts)
        self.sign_in = SignIn(*parts)
        self.duty = EndSessions(service._writer, service._reads, clock)
        self.audit = Audit(service._reads)

    def sessions(self) -> int:
        with self.service._reads.connection() as connection:
            return len(people.expired_sessions(connection, 2**62, 1000))

    def hash_of(self, name: str) -> str:
        with self.service._reads.connection() as connection:
            return people.find_hash(connection, name) or ""


@pytest.fixture
def bench(tmp_path: Path, database: dict[str, Any]) -> Iterator[Bench]:
    (tmp_path / "config.yml").write_text(CONFIG)
    clock = FileClock(tmp_path / "now")
    service = Service(launch_in(tmp_path, **database), clock)
    yield Bench(service, clock)
    service.stop()


def test_a_session_lasts_twelve_hours_and_is_then_deleted(bench: Bench) -> None:
    bench.users.add("ann", Role.OPERATOR, password_hash(), ME)
    token = bench.sign_in.sign_in("ann", PASSWORD, "").token
    bench.clock.advance(SESSION_SECONDS - 1)
    later = bench.sign_in.sign_in("ann", PASSWORD, "").token
    assert bench.sign_in.visitor(token) == Visitor("ann", Role.OPERATOR)
    bench.duty.chunk()
    assert bench.sessions() == 2
    bench.clock.advance(1)
    assert bench.sign_in.visitor(token) is None
    bench.duty.chunk()
    assert bench.sessions() == 1
    assert bench.sign_in.visitor(later) is not None


def test_what_is_done_to_users_is_in_the_trail_without_a_password(bench: Bench) -> None:
    bench.users.add("ann", Role.VIEWER, password_hash(), ME, reveal=True)
    bench.sign_in.sign_in("ann", PASSWORD, "10.0.0.1")
    with pytest.raises(Unauthenticated):
        bench.sign_in.sign_in("ann", "wrong", "10.0.0.1")
    bench.users.set_password("ann", password_hash(), ME)
    bench.users.remove("ann", ME)
    entries = [entry for entry in bench.audit.entries() if entry.action.startswith("user.")]
    assert [(e.action, e.actor, e.address, e.subject, bytes(e.detail)) for e in entries[::-1]] == [
        ("user.added", "me", "", "ann", b'{"role":"viewer","reveal":true}'),
        ("user.signed_in", "ann by dashboard", "10.0.0.1", "ann", b"{}"),
        ("user.password", "me", "", "ann", b"{}"),
        ("user.removed", "me", "", "ann", b'{"role":"viewer"}'),
    ]


def test_passwords_are_hashed_as_the_rfc_advises() -> None:
    """RFC 9106, section 4: the second recommended option; tests make it cheap elsewhere."""
    hashed = runpy.run_path(passwords.__file__)["hash_of"](PASSWORD)
    assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_a_login_renews_a_hash_of_other_parameters(bench: Bench) -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD)
    bench.users.add("ann", Role.ADMIN, weak, ME)
    bench.sign_in.sign_in("ann", PASSWORD, "")
    renewed = bench.hash_of("ann")
    assert renewed != weak
    assert not is_outdated(renewed)
    bench.sign_in.sign_in("ann", PASSWORD, "")
    assert bench.hash_of("ann") == renewed


class Watched(PasswordHasher):
    """Notes what is verified, and does something else meanwhile."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified: list[str | bytes] = []
        self._meanwhile = meanwhile

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002  argon2's name
        self.verified.append(hash)
        self._meanwhile()
        return super().verify(hash, password)

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self._meanwhile()
        return super().hash(password, salt=salt)


@pytest.mark.parametrize("name", ["nobody", "no name of a user", ""])
def test_a_name_that_nobody_has_costs_a_verification_as_well(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    watched = Watched()
    monkeypatch.setattr(passwords, "_hasher", watched)
    with pytest.raises(Unauthenticated):
        bench.sign_in.sign_in(name, PASSWORD, "")
    (verified,) = watched.verified
    assert not is_outdated(str(verified))


def test_logins_at_once_count_before_any_has_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.users.add("ann", Role.ADMIN, password_hash(), ME)
    for _ in range(4):
        with pytest.raises(Unauthenticated):
            bench.sign_in.sign_in("ann", "wrong", "")

    def another() -> None:
        with pytest.raises(RateExceeded):
            bench.sign_in.sign_in("ann", PASSWORD, "")

    watched = Watched(another)
    monkeypatch.setattr(passwords, "_hasher", watched)
    with pytest.raises(Unauthenticated):
        bench.sign_in.sign_in("ann", "wrong", "")
    assert len(watched.verified) == 1


def test_whatever_is_hashed_or_verified_has_one_of_two_places(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = []

    def note() -> None:
        places = 0
        while passwords._running.acquire(blocking=False):
            places += 1
        for _ in range(places):
            passwords._running.release()
        free.append(places)

    bench.users.add("ann", Role.ADMIN, password_hash(), ME)
    monkeypatch.setattr(passwords, "_hasher", Watched(note))
    assert bench.sign_in.sign_in("ann", PASSWORD, "")
    hash_of(PASSWORD)
    assert set(free) == {1}
    assert len(free) >= 2


def test_a_password_that_is_changed_while_it_is_verified_opens_nothing(bench: Bench) -> None:
    bench.users.add("ann", Role.ADMIN, password_hash(), ME)

    class Slow(Verifier):
        def verify(self, hash_: str | None, password: str) -> bool:
            bench.users.set_password("ann", hash_of("another long password"), ME)
            return super().verify(hash_, password)

    bench.sign_in._verifier = Slow()
    with pytest.raises(Unauthenticated):
        bench.sign_in.sign_in("ann", PASSWORD, "")
    assert bench.sessions() == 0


def test_a_password_is_the_same_however_its_letters_are_composed(bench: Bench) -> None:
    bench.users.add("ann", Role.ADMIN, hash_of("caf\u00e9 caf\u00e9 caf\u00e9"), ME)
    assert bench.sign_in.sign_in("ann", "cafe\u0301 cafe\u0301 cafe\u0301", "").token


def test_a_move_takes_users_along_in_whatever_order_a_database_has_them(
    tmp_path: Path, databases: Databases
) -> None:
    services = []
    for name, env in (("from", {}), ("to", databases.env("postgresql"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yml").write_text("version: 1\nqueues: {}\n")
        services.append(Service(launch_in(tmp_path / name, **env)))
    source, target = (Bench(service, FileClock(tmp_path / "now")) for service in services)
    for name in ("b", "A", "a-c", "ab", "B"):
        source.users.add(name, Role.VIEWER, password_hash(), ME, reveal=True)
    source.sign_in.sign_in("A", PASSWORD, "")
    for _ in range(2):  # the second goes on from the first
        Move(services[0]._database, services[1]._database)
    assert target.users.all() == source.users.all()
    assert target.sign_in.sign_in("A", PASSWORD, "").token
    for service in services:
        service.stop()


def test_a_backup_has_the_users(alone: Server, tmp_path: Path) -> None:
    copy = tmp_path / "copy.queuedb"
    assert command.run_beside(alone, "backup", str(copy)).returncode == 0
    listed = command.run("users", "list", DB_PATH=str(copy), SECRET=SECRET)
    assert "ann" in listed.stdout


def test_one_verification_too_many_is_turned_away_and_the_next_is_not() -> None:
    verifier = Verifier()
    with ExitStack() as held:
        for _ in range(passwords._IN_LINE):
            held.enter_context(verifier._place_in_line())
        with pytest.raises(Busy):
            verifier.verify(password_hash(), PASSWORD)
    assert verifier.verify(password_hash(), PASSWORD)
    assert not verifier.verify(password_hash(), "wrong")
