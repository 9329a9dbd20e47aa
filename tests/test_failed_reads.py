"""Reads that fail: the client gets a 503, and the log the cause, without what was read."""

from pathlib import Path

import pytest
import structlog
from sqlalchemy.exc import DBAPIError

from jobengine.store.failures import FailureLog
from tests.harness.postgresql import Cluster
from tests.harness.server import STDERR, Server
from tests.test_bad_input import assert_problem
from tests.test_crash import CONFIG
from tests.test_outages import until_done

EVENT = "the database could not be read"

logged = pytest.mark.skipif(STDERR is not None, reason="it looks at what the server logs")


@logged
def test_the_cause_of_a_read_that_a_damaged_page_fails_is_logged(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG) as server:
        made = server.api().made(content={"needle": "x" * 400_000})
    path = server.database
    sound = path.read_bytes()
    middle = len(sound) // 2
    path.write_bytes(sound[:middle] + bytes(4096) + sound[middle + 4096 :])
    with Server(tmp_path) as server:
        api = server.api()
        for _ in range(20):  # more than there are connections to read with
            assert_problem(api.get(made["uid"]), 503, "store-failed")
        event = server.wait_for(EVENT, level="warning")
        assert event["error"] in ("MemoryError", "DatabaseError")
        assert api.get(api.made()["uid"]).status == 200, "it keeps nobody else from reading"
        assert "needle" not in server.stderr


@logged
def test_the_cause_of_reads_that_fail_without_postgresql_is_logged(tmp_path: Path) -> None:
    with (
        Cluster(tmp_path / "postgresql") as cluster,
        Server(tmp_path, CONFIG, DATABASE_URL=cluster.new_database()) as server,
    ):
        api = server.api()
        made = api.made()
        cluster.stop()
        assert_problem(until_done(lambda: api.get(made["uid"]), 503), 503, "store-failed")
        event = server.wait_for(EVENT, level="warning")
        assert "Error" in event["error"] or "AdminShutdown" in event["error"]
        assert event["reason"]
        cluster.start()
        until_done(lambda: api.get(made["uid"]), 200)


def test_failures_are_logged_once_a_second_by_the_drivers_first_line() -> None:
    now = 100.0
    log = FailureLog("it failed", lambda: now)
    error = DBAPIError("SELECT x", {"x": "secret"}, ValueError("why\nDETAIL: (secret)"))
    with structlog.testing.capture_logs() as entries:
        for after in (0.0, 0.0, 0.99, 0.01, 0.5):
            now += after
            log.log(error)
    expected = {"event": "it failed", "error": "ValueError", "reason": "why"}
    assert [expected.items() <= entry.items() for entry in entries] == [True, True]
    assert "secret" not in str(entries)
