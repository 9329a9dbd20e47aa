"""kill -9 while a changed config is applied, and while removed queues are purged."""

import random
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import text

from jobengine.config.settings import DatabaseUrl
from jobengine.store.database import Use
from jobengine.store.opening import open_database
from tests.harness.client import Api
from tests.harness.server import SECRET, Server
from tests.test_reload import OPEN, hang_up

# Of each kind and on each of the two databases: twenty of each kind in all.
KILLS = 10
REMOVED = 1000
BEFORE = f"version: 1\nqueues:\n  kept: {OPEN}\n  gone: {OPEN}\n  changed: {OPEN}\n"
AFTER = f"version: 1\nqueues:\n  kept: {OPEN}\n  added: {OPEN}\n  changed: {{read: ['*']}}\n"
_DRAFT = {"content": {}, "valid_for": 600, "priority": 50}


def create_many(api: Api, jobs: int) -> None:
    for _ in range(jobs // 1000):
        assert api.send("PUT", "/api/v1/jobs/create", [_DRAFT] * 1000).status == 201


def assert_as_after(server: Server, kept: list[dict[str, Any]]) -> None:
    """The queues are those of the new config, and the jobs of the kept one are all there."""
    assert server.api("kept").listed() == kept
    assert server.api("gone").all().status == 404
    assert server.api("added").create().status == 201
    assert server.api("changed").create().status == 403
    assert server.api("changed").all().status == 204


def stored(server: Server, database: dict[str, Any]) -> int:
    """How many jobs lie in the database, out of sight or not."""
    place = DatabaseUrl(database["DATABASE_URL"]) if database else server.database
    looked = open_database(place, SECRET.encode(), Use.LOOK)
    with looked.readers.connect() as connection:
        jobs = int(connection.execute(text("SELECT count(*) FROM job")).scalar_one())
    looked.close()
    return jobs


def test_a_reload_and_a_purge_survive_kill_9(tmp_path: Path, database: dict[str, Any]) -> None:
    dice = random.Random(7)
    kept: list[dict[str, Any]] = []
    server = Server(tmp_path, BEFORE, **database).start()
    for kill in range(2 * KILLS):
        kept.append(server.api("kept").made(priority=100 - kill))
        create_many(server.api("gone"), REMOVED)
        hang_up(server, AFTER)
        if kill % 2:  # while it purges
            server.wait_for("removed queue is being deleted with its jobs", jobs=REMOVED)
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(dice.uniform(0, 0.03))
        server.kill()
        server = Server(tmp_path, AFTER, **database).start()
        assert_as_after(server, kept)
        hang_up(server, BEFORE)
        server.wait_for("config applied")
        assert server.api("gone").all().status == 204, "a name that comes back starts empty"
    expected = len(kept)
    while stored(server, database) != expected:
        server.wait_for("jobs of removed queues deleted")
    assert server.api("kept").listed() == kept
    assert server.stop() == 0
