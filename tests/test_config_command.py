"""`jobengine config`: what it says of a config, and that it changes nothing."""

from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.harness import command
from tests.harness.server import Server

OPEN = "{read: ['*'], write: ['*']}"
CONFIG = f"version: 1\nqueues:\n  q: {OPEN}\n  r: {OPEN}\n  old: {OPEN}\n"
WANTED = (
    f"version: 1\nqueues:\n  q: {OPEN}\n  s: {OPEN}\n"
    "  r: {read: [a], write: [], job_keep_minutes: 9}\n"
)


def run(*arguments: str, **env: str) -> "CompletedProcess[str]":
    return command.run("config", *arguments, **env)


def written(folder: Path, text: str) -> str:
    path = folder / "wanted.yml"
    path.write_text(text)
    return str(path)


def test_check_says_that_a_config_is_good(tmp_path: Path) -> None:
    good = run("check", "--config", written(tmp_path, WANTED))
    assert (good.returncode, good.stdout) == (0, "the config is good, with 3 queue(s)\n")


def test_check_tells_every_mistake_on_stderr(tmp_path: Path) -> None:
    bad = run("check", "--config", written(tmp_path, "version: 2\nprotect_nonempty: 1\nprt: 1\n"))
    assert bad.returncode == 2
    assert bad.stdout == ""
    for mistake in ("version: expected 1", "protect_nonempty: expected true or false", "port?"):
        assert mistake in bad.stderr
    assert run("check", "--config", str(tmp_path / "none.yml")).returncode == 2


def expected(lines: list[str]) -> None:
    assert lines[0] == "+ s"
    assert lines[1].startswith("~ r: read")
    assert "job_keep_minutes 60 → 9" in lines[1]
    assert lines[2:] == ["- old: 2 job(s) would be lost"]


def test_a_plan_is_shown_beside_a_live_server_and_without_one(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    wanted = written(tmp_path, WANTED)
    with Server(tmp_path, CONFIG, **database) as server:
        for _ in range(2):
            made = server.api("old").made()
        env = {"DB_PATH": str(server.database), **database}
        beside = run("plan", "--config", wanted, **env)
        assert beside.returncode == 0, beside.stderr
        expected(beside.stdout.splitlines())
        assert server.api("old").get(made["uid"]).json() == made
        assert server.api("q").create().status == 201
    alone = run("plan", "--config", wanted, **env)
    expected(alone.stdout.splitlines())
    same = run("plan", "--config", str(server.config), **env)
    assert same.stdout == "the queues are as the config has them\n"
    with Server(tmp_path, CONFIG, **database) as server:
        assert server.api("old").get(made["uid"]).json() == made


def test_a_plan_says_what_would_be_refused(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG) as server:
        server.api("old").made()
    env = {"DB_PATH": str(server.database)}
    protecting = WANTED.replace("version: 1", "version: 1\nprotect_nonempty: true")
    shown = run("plan", "--config", written(tmp_path, protecting), **env)
    assert "- old: 1 job(s) would be lost (refused: protect_nonempty)" in shown.stdout
    shown = run("plan", "--config", written(tmp_path, "version: 1\n"), **env)
    assert "refused: the config has no `queues`" in shown.stdout


def test_a_plan_for_a_database_that_is_not_there_adds_all_and_makes_nothing(tmp_path: Path) -> None:
    wanted = written(tmp_path, WANTED)
    shown = run("plan", "--config", wanted, DB_PATH=str(tmp_path / "none" / "jobs.queuedb"))
    assert (shown.returncode, shown.stdout) == (0, "+ q\n+ s\n+ r\n")
    assert [path.name for path in tmp_path.iterdir()] == ["wanted.yml"]


def test_a_wrong_secret_is_exit_1(tmp_path: Path, database: dict[str, Any]) -> None:
    with Server(tmp_path, CONFIG, **database) as server:
        env = {"DB_PATH": str(server.database), **database, "SECRET": "wrong"}
        refused = run("plan", "--config", written(tmp_path, WANTED), **env)
        assert refused.returncode == 1
        assert "SECRET does not open" in refused.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("check", "--help"), ("plan", "--help")])
def test_the_commands_explain_themselves(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).returncode == 0
