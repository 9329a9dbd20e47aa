"""A changed config, applied without a restart; and changes that must change nothing."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobengine.engine.config_watch import _UNCHANGED as UNCHANGED
from tests.harness.server import Server

OPEN = "{read: ['*'], write: ['*']}"
CONFIG = f"version: 1\nqueues:\n  q: {OPEN}\n  r: {OPEN}\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own."""
    with Server(tmp_path, CONFIG) as running:
        yield running


@pytest.fixture(params=["waitress", "granian"])
def each_server(
    request: pytest.FixtureRequest, tmp_path: Path, database: dict[str, Any]
) -> Iterator[Server]:
    """As `server`, on each kind of HTTP server and of database."""
    with Server(tmp_path, CONFIG, arguments=("--server", request.param), **database) as running:
        yield running


def hang_up(server: Server, config: str) -> None:
    """Writes the config and sends SIGHUP."""
    server.config.write_text(config)
    server.process.send_signal(signal.SIGHUP)


def statuses(server: Server, *queues: str) -> list[int]:
    return [server.api(name).create().status for name in queues]


def test_sighup_applies_queues_added_changed_and_removed(each_server: Server) -> None:
    server = each_server
    assert statuses(server, "q", "r", "s") == [201, 201, 404]
    hang_up(server, f"version: 1\nqueues:\n  r: {{read: [], write: []}}\n  s: {OPEN}\n")
    server.wait_for("config applied")
    assert statuses(server, "q", "r", "s") == [404, 403, 201]
    assert server.wait_for("removed queue is being deleted with its jobs")["jobs"] == 1


def test_a_changed_file_is_applied_without_a_signal(server: Server) -> None:
    server.config.write_text(f"version: 1\nqueues:\n  q: {OPEN}\n  s: {OPEN}\n")
    server.wait_for("config applied")
    assert statuses(server, "q", "r", "s") == [201, 404, 201]


def test_a_file_put_in_its_place_with_the_same_size_and_time_is_applied(server: Server) -> None:
    before = server.config.stat()
    other = server.folder / "other.yml"
    other.write_text(CONFIG.replace("  r:", "  s:"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(server.config)
    server.wait_for("config applied")
    assert statuses(server, "r", "s") == [404, 201]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("version: 1\nqueues:\n  q: {reed: []}\n  s: 7\n", "queues.q.reed"),
        ("version: 1\nqueues:\n  q: {read: [", "line"),
        ("", "empty"),
        ("version: 1\n", "queues: missing"),
        ("version: 1\nqueues:\n", "queues: missing"),
        ("\xff", "version"),
    ],
)
def test_a_file_with_mistakes_changes_nothing_and_says_what(
    server: Server, config: str, said: str
) -> None:
    made = server.api().made()
    hang_up(server, config)
    refused = server.wait_for("the config is refused; nothing is changed")
    assert said in " ".join(refused["mistakes"]) or said == "version"
    assert server.api().get(made["uid"]).json() == made
    assert statuses(server, "q", "r") == [201, 201]
    hang_up(server, CONFIG + f"  s: {OPEN}\n")
    server.wait_for("config applied")
    assert statuses(server, "s") == [201]


def test_a_file_that_is_gone_changes_nothing(server: Server) -> None:
    server.config.rename(server.folder / "away.yml")
    server.wait_for("the config cannot be read; nothing is changed")
    assert statuses(server, "q", "r") == [201, 201]
    (server.folder / "away.yml").rename(server.config)
    server.wait_for("config applied")


def test_no_queues_written_out_is_obeyed(server: Server) -> None:
    hang_up(server, "version: 1\nqueues: {}\n")
    server.wait_for("config applied")
    assert statuses(server, "q", "r") == [404, 404]


def test_what_a_start_alone_can_change_is_said(server: Server) -> None:
    hang_up(server, CONFIG.replace("version: 1", "version: 1\nport: 6123\nwaiters: 3"))
    later = server.wait_for("these settings take effect at the next start")
    assert later["settings"] == ["port", "waiters"]
    assert statuses(server, "q") == [201]


def test_a_queue_with_jobs_is_protected_where_the_config_says_so(server: Server) -> None:
    server.api().made()
    protecting = CONFIG.replace("version: 1", "version: 1\nprotect_nonempty: true")
    hang_up(server, protecting.replace("  q:", "  s:"))
    refused = server.wait_for("the config is refused; nothing is changed")
    assert refused["mistakes"][0].startswith("queues.q: missing, but the queue holds 1 job(s)")
    assert statuses(server, "q", "s") == [201, 404]
    hang_up(server, protecting.replace("  r:", "  s:"))
    server.wait_for("config applied")
    assert statuses(server, "q", "r", "s") == [201, 404, 201], "an empty one may go"


def test_a_start_refuses_to_delete_what_is_protected(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG) as server:
        made = server.api().made()
    protecting = CONFIG.replace("version: 1", "version: 1\nprotect_nonempty: true")
    server = Server(tmp_path, protecting.replace("  q:", "  s:"))
    server.launch()
    code, printed = server.result()
    assert code == 2
    assert "queues.q: missing, but the queue holds 1 job(s)" in printed
    with Server(tmp_path, CONFIG) as server:
        assert server.api().listed() == [made]


def test_a_queue_has_minutes_of_its_own(tmp_path: Path) -> None:
    own = "read: ['*'], write: ['*'], job_keep_minutes: 0, job_timeout_minutes: 60"
    config = f"version: 1\njob_timeout_minutes: 5\nqueues:\n  q: {{{own}}}\n  r: {OPEN}\n"
    with Server(tmp_path, config) as server:
        done = server.api().made("complete")
        kept = server.api("r").made("complete")
        deleted = server.wait_for("jobs pruned")
        assert (deleted["queue"], deleted["jobs"]) == ("q", 1)
        assert server.api().get(done["uid"]).status == 404
        assert server.api("r").get(kept["uid"]).json() == kept


def test_sighup_says_that_the_file_is_what_it_was(server: Server) -> None:
    """As in a container whose config is mounted as a single file, and was replaced outside."""
    server.process.send_signal(signal.SIGHUP)
    said = server.wait_for(UNCHANGED)
    assert said["path"] == str(server.config)
    hang_up(server, f"version: 1\nqueues:\n  s: {OPEN}\n")
    server.wait_for("config applied")
    assert statuses(server, "q", "s") == [404, 201]
    server.process.send_signal(signal.SIGHUP)
    server.wait_for(UNCHANGED)
