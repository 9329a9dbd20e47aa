"""A SECRET with the end of a line behind it opens what the same text without it opens."""

from pathlib import Path
from typing import Any

import pytest

from jobengine.config.environment import read_secret
from jobengine.domain.errors import SecretMissing
from jobengine.store.secret_forms import forms
from tests.harness import command
from tests.harness.filling import CONFIG, filled, stored
from tests.harness.server import Server
from tests.test_backup import succeeded

WARNING = "the SECRET opens the database only with the end of a line behind it"


def in_file(folder: Path, secret: str) -> dict[str, Any]:
    """The environment that has the SECRET in a file."""
    path = folder / "secret"
    path.write_bytes(secret.encode())
    return {"SECRET": "", "SECRET_FILE": str(path)}


@pytest.mark.parametrize(
    ("secret", "tried"),
    [
        (b"text", (b"text",)),
        (b"text\n", (b"text", b"text\n")),
        (b"text\r\n", (b"text", b"text\r\n")),
        (b"text\r", (b"text", b"text\r")),
        (b"text\n\n", (b"text\n", b"text\n\n")),
        (b"te\nxt", (b"te\nxt",)),
        (b" text ", (b" text ",)),
        (b"\n", (b"\n",)),
    ],
)
def test_the_end_of_the_last_line_is_dropped_first(secret: bytes, tried: tuple[bytes, ...]) -> None:
    assert forms(secret) == tried


@pytest.mark.parametrize("secret", ["\n", "\r", "\r\n"])
def test_the_end_of_a_line_alone_is_no_secret(secret: str) -> None:
    with pytest.raises(SecretMissing, match="SECRET is not set"):
        read_secret({"SECRET": secret})


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_new_database_opens_with_the_line_and_with_its_end(
    tmp_path: Path, database: dict[str, Any], end: str
) -> None:
    jobs = filled(tmp_path, 3, **database, SECRET=f"text{end}")
    assert stored(tmp_path, **database, SECRET="text") == jobs
    assert stored(tmp_path, **database, **in_file(tmp_path, f"text{end}")) == jobs
    with Server(tmp_path, CONFIG, **database, SECRET=f"text{end}") as server:
        pass
    assert WARNING not in server.stderr


def test_a_database_of_before_opens_as_it_was_made_and_rekey_ends_that(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    # Two newlines make today the key that one made before.
    jobs = filled(tmp_path, 3, **database, SECRET="text\n\n")
    env = {"DB_PATH": str(tmp_path / "jobs.queuedb"), **database}
    for given in ({"SECRET": "text\n"}, in_file(tmp_path, "text\n")):
        with Server(tmp_path, CONFIG, **database, **given) as server:
            assert {job["uid"]: job for job in server.api().listed()} == jobs
        assert WARNING in server.stderr
    verified = command.run("verify", **env, SECRET="text\n")
    succeeded(verified)
    assert WARNING in verified.stderr
    refused = command.run("verify", **env, SECRET="text")
    assert (refused.returncode, "SECRET does not open" in refused.stderr) == (1, True)

    assert "are under the new" in succeeded(rekey(env, "text\n", "text"))
    assert "nothing to do" in succeeded(rekey(env, "text\n", "text"))
    for secret in ("text", "text\n"):
        with Server(tmp_path, CONFIG, **database, SECRET=secret) as server:
            assert {job["uid"]: job for job in server.api().listed()} == jobs
        assert WARNING not in server.stderr


def rekey(env: dict[str, Any], secret: str, new: str) -> Any:
    return command.run("rekey", **env, SECRET=secret, NEW_SECRET=new)


def test_a_new_secret_loses_its_newline_too(tmp_path: Path, database: dict[str, Any]) -> None:
    jobs = filled(tmp_path, 3, **database, SECRET="text")
    env = {"DB_PATH": str(tmp_path / "jobs.queuedb"), **database}
    same = rekey(env, "text", "text\n")
    assert (same.returncode, "expected another than SECRET" in same.stderr) == (2, True)
    succeeded(rekey(env, "text", "new\r\n"))
    assert stored(tmp_path, **database, SECRET="new") == jobs
