"""Power cuts: what was acknowledged is there, whole, and a wrong SECRET changes nothing."""

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.harness import command
from tests.harness.clock import FileClock
from tests.harness.cuts import Disk, Record, TracedDisk
from tests.harness.filling import CONFIG
from tests.harness.server import SECRET, Server
from tests.test_backup import succeeded

NEW = "a new secret"
CUTS = int(os.environ.get("CUTS", "100"))
# Kinds of cuts, by what the process was writing.
ANYWHERE, CHECKPOINT, NAMES, MAKING = "anywhere", "checkpoint", "names", "making the file"
TURNS = (ANYWHERE, CHECKPOINT, NAMES, CHECKPOINT, MAKING, CHECKPOINT, ANYWHERE, CHECKPOINT)


class State(NamedTuple):
    """What the clients of a database know of it: its jobs by their uids, and its SECRET."""

    jobs: dict[str, Any]
    secret: str


class Session:
    """What clients and operators do to a database whose disk is traced, one after the other."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.disk = TracedDisk(folder / "traced", folder / "trace")
        self.clock = FileClock(folder / "clock")
        self.acknowledged: list[tuple[int, State]] = [(0, State({}, SECRET))]
        self._folder, self._dice = folder / "traced", random.Random(seed)
        self._backup = self._folder / "backup.queuedb"
        self._server: Server | None = None

    def run(self, rounds: int) -> None:
        """Starts, stops and kills servers under load, backs up, restores and rekeys."""
        for round_ in range(rounds):
            self._serve()
            self._load(12)
            backed_up = self._state
            self._command("backup", str(self._backup), "--force")
            self._load(30)
            if round_ % 2:
                self._end()
                self._command("rekey", NEW_SECRET=self._other)
                self._acknowledge(self._state.jobs, self._other)
            else:
                self._end()
                self._command("restore", str(self._backup))
                self._acknowledge(backed_up.jobs)
        self._serve()
        self._load(5)
        self._end()

    @property
    def _state(self) -> State:
        return self.acknowledged[-1][1]

    @property
    def _other(self) -> str:
        return SECRET if self._state.secret == NEW else NEW

    def _acknowledge(self, jobs: dict[str, Any], secret: str | None = None) -> None:
        state = State(jobs, secret or self._state.secret)
        self.acknowledged.append((self.disk.position(), state))

    def _serve(self) -> None:
        secret = self._state.secret
        server = Server(
            self._folder, CONFIG, clock_file=self.clock.path, **self.disk.env, SECRET=secret
        )
        self._server = server.start()

    def _end(self) -> None:
        assert self._server is not None
        if self._dice.random() < 0.5:
            self._server.kill()
        else:
            assert self._server.stop() == 0

    def _command(self, *arguments: str, **env: str) -> None:
        path = str(self._folder / "jobs.queuedb")
        given = {"DB_PATH": path, "SECRET": self._state.secret, **self.disk.env, **env}
        succeeded(command.run(*arguments, **given))

    def _load(self, calls: int) -> None:
        assert self._server is not None
        api = self._server.api()
        for _ in range(calls):
            jobs, roll = dict(self._state.jobs), self._dice.random()
            uid = self._dice.choice(list(jobs)) if jobs else ""
            if roll < 0.6 or not uid:
                size = self._dice.choice((100, 5_000, 150_000, 600_000))
                job = api.made(content={"filler": "x" * size}, valid_for=100_000)
                jobs[job["uid"]] = job
            elif roll < 0.7:
                answer = api.next()
                if answer.status == 200:
                    jobs[answer.json()["uid"]] = answer.json()
            elif roll < 0.9:
                jobs[uid] = api.update(uid, content={"changed": "y" * 20_000}).json()
            else:
                assert api.delete(uid).status == 204
                del jobs[uid]
            self._acknowledge(jobs)


class Cut(NamedTuple):
    """A moment, and what a client may find then: what it had been told, or what came next."""

    kind: str
    position: int
    states: list[State]


def moments(session: Session, records: list[tuple[int, Record]], cuts: int) -> Iterator[Cut]:
    """Moments all over a trace, in order: half of them in checkpoints or among changed names."""
    dice = random.Random(cuts)
    begun = next(at for at, each in records if each.call == "c" and each.path.endswith("-wal"))
    kinds: dict[str, Callable[[int, Record], bool]] = {
        ANYWHERE: lambda *_: True,
        CHECKPOINT: lambda _, each: each.call == "w" and each.path.endswith(".queuedb"),
        NAMES: lambda _, each: each.call in "cru",
        MAKING: lambda position, _: position <= begun,
    }
    places = {kind: [at for at, each in records if fits(at, each)] for kind, fits in kinds.items()}
    kinds_of_cuts = [
        (ANYWHERE, CHECKPOINT, ANYWHERE, CHECKPOINT, NAMES)[n % 5] for n in range(cuts)
    ]
    chosen = sorted((dice.choice(places[kind]), kind) for kind in kinds_of_cuts)
    for position, kind in chosen:
        told = sum(at <= position for at, _ in session.acknowledged)
        states = [state for _, state in session.acknowledged[told - 1 : told + 1]]
        yield Cut(kind, position, states)


def contents(folder: Path) -> Counter[bytes]:
    """Everything that the files in a folder hold, whatever their names are."""
    passing = (".lock", "-shm", ".sock", ".yml")
    files = [path for path in folder.iterdir() if not path.name.endswith(passing)]
    return Counter(data for path in files if (data := path.read_bytes()))


def check(folder: Path, cut: Cut, clock: FileClock) -> None:
    """Opens what a cut has left."""
    database = str(folder / "jobs.queuedb")
    before = contents(folder)
    if cut.states[0].jobs:
        wrong = command.run("verify", "--db", database, SECRET="wrong")
        assert (wrong.returncode, "SECRET does not open" in wrong.stderr) == (1, True), wrong
        refused = Server(folder, CONFIG, clock_file=clock.path, SECRET="wrong")
        refused.launch()
        code, printed = refused.result()
        assert (code, "SECRET does not open" in printed) == (1, True), printed
        assert contents(folder) == before, "a wrong SECRET changed something"
        secret = the_secret(database, cut.states)
    else:
        secret = cut.states[0].secret
    with Server(folder, CONFIG, clock_file=clock.path, SECRET=secret) as server:
        found = State({job["uid"]: job for job in server.api().listed()}, secret)
        assert found in cut.states
        server.api().made()
    succeeded(command.run("verify", "--db", database, SECRET=secret))


def the_secret(database: str, states: list[State]) -> str:
    """The only SECRET that the database opens with; it is sound."""
    secrets = {state.secret for state in states}
    tried = {each: command.run("verify", "--db", database, SECRET=each) for each in secrets}
    opens = [secret for secret, verified in tried.items() if verified.returncode == 0]
    assert len(opens) == 1, tried
    return opens[0]


@pytest.mark.parametrize("cuts", [10, pytest.param(CUTS, marks=pytest.mark.slow)])
def test_every_state_that_a_power_cut_leaves_opens_with_what_was_acknowledged(
    tmp_path: Path, cuts: int
) -> None:
    session = Session(tmp_path, seed=cuts)
    session.run(rounds=2 if cuts <= 10 else 6)
    records = session.disk.records()
    todo = moments(session, records, cuts)
    disk, cut = Disk(), next(todo, None)
    for number, (position, record) in enumerate(records):
        disk.do(record)
        while cut is not None and cut.position <= position:
            folder = tmp_path / f"cut-{cut.position}"
            folder.mkdir()
            disk.cut(random.Random(f"{number} {cut}"[:60]), folder)
            check(folder, cut, session.clock)
            shutil.rmtree(folder)
            cut = next(todo, None)
    assert cut is None, "every cut was made"
