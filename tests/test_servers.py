"""Several servers on one PostgreSQL: what they share, and what one does when another dies."""

import http.client
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from jobengine.config.settings import DatabaseUrl
from jobengine.domain.clock import SteeredSource, SystemSource
from jobengine.domain.errors import CannotOpen
from jobengine.store.opening import open_database
from jobengine.store.postgresql.link import Link
from jobengine.wsgi import Service
from tests.conftest import launch_in
from tests.harness import CHECKOUT
from tests.harness.client import Api, WsgiTransport
from tests.harness.postgresql import Cluster
from tests.harness.server import SECRET, Server
from tests.test_concurrency import CLAIMERS, JOBS, create_all, work_off

OPEN = "{read: ['*'], write: ['*']}"
CONFIG = f"version: 1\nqueues:\n  q: {OPEN}\n"
LEADS = "the background duties are this server's"
_PATIENCE_SECONDS = 30


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.new_database()


@pytest.fixture
def two(tmp_path: Path, url: str) -> Iterator[list[Server]]:
    """Two servers on one database."""
    with ExitStack() as running:
        yield [
            running.enter_context(Server(tmp_path / name, CONFIG, DATABASE_URL=url))
            for name in ("first", "second")
        ]


def eventually(holds: Callable[[], bool]) -> None:
    """Waits until it holds."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def leader(servers: list[Server]) -> Server:
    """The server that runs the duties, once there is one."""
    leading: list[Server] = []

    def led() -> bool:
        leading[:] = [s for s in servers if any(entry["event"] == LEADS for entry in s.log)]
        return bool(leading)

    eventually(led)
    (only,) = leading
    return only


def test_8_claimers_over_two_servers_share_none_and_leave_none(two: list[Server]) -> None:
    more = threading.Event()
    more.set()
    with ThreadPoolExecutor(CLAIMERS + 4) as pool:
        claimers = [pool.submit(work_off, two[n % 2], "q", more) for n in range(CLAIMERS)]
        creators = [pool.submit(create_all, two[n % 2], "q", JOBS // 4) for n in range(4)]
        created = [uid for creator in creators for uid in creator.result()]
        more.clear()
        claimed = [claimer.result() for claimer in claimers]
    everything = [uid for uids in claimed for uid in uids]
    assert len(created) == len(everything) == len(set(everything)) == JOBS
    assert all(claimed), "every claimer got some"
    assert len(two[0].api().listed("complete")) == JOBS


def test_a_server_killed_in_the_middle_hands_out_nothing_twice(two: list[Server]) -> None:
    made = [uid for number in (0, 1) for uid in create_all(two[number], "q", 500)]
    claimed: list[str] = []

    def claim_until_it_ends(server: Server) -> None:
        api = server.api()
        try:
            while (answer := api.next()).status == 200:
                claimed.append(answer.json()["uid"])
        except (OSError, http.client.HTTPException):
            pass

    workers = [
        threading.Thread(target=claim_until_it_ends, args=(server,))
        for server in two
        for _ in "1234"
    ]
    for worker in workers:
        worker.start()
    eventually(lambda: len(claimed) > 100)
    two[1].kill()
    for worker in workers:
        worker.join()
    lost = len(made) - len(claimed)
    assert [uid for uid, times in Counter(claimed).items() if times > 1] == []
    assert set(claimed) <= set(made)
    assert 0 <= lost <= 4, "only what was in the air when it died"
    assert len(two[0].api().listed("inprogress")) == len(made)


def test_a_waiter_wakes_for_a_job_created_on_another_server(two: list[Server]) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = two[0].api()
        answer = pool.submit(waiting.send, "GET", "/api/v1/jobs/next?wait=60")
        waiting.transport.sent.wait()  # type: ignore[attr-defined]  # an HttpTransport
        two[0].api().next()
        made = two[1].api().made()
        assert answer.result().json()["uid"] == made["uid"]


def test_a_waiter_wakes_for_a_job_put_back_on_another_server(two: list[Server]) -> None:
    made = two[1].api().made("inprogress")
    with ThreadPoolExecutor(1) as pool:
        waiting = two[0].api()
        answer = pool.submit(waiting.send, "GET", "/api/v1/jobs/next?wait=60")
        waiting.transport.sent.wait()  # type: ignore[attr-defined]  # an HttpTransport
        two[0].api().next()
        two[1].api().update(made["uid"], status="queued")
        assert answer.result().json()["uid"] == made["uid"]


def test_one_server_runs_the_duties_and_another_takes_over(two: list[Server]) -> None:
    first = leader(two)
    second = two[1 - two.index(first)]
    two[0].api().made(valid_for=1)
    eventually(lambda: any(entry["event"] == "jobs expired" for entry in first.log))
    assert LEADS not in second.stderr
    first.kill()
    assert leader([second]) is second
    second.api().made(valid_for=1)
    eventually(lambda: any(entry["event"] == "jobs expired" for entry in second.log))


def test_servers_that_start_at_once_migrate_once(tmp_path: Path, url: str) -> None:
    servers = [Server(tmp_path / str(n), CONFIG, DATABASE_URL=url) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Server.start, servers))
    made = servers[0].api().made()
    assert [server.api().get(made["uid"]).json() for server in servers] == [made] * 4
    assert [server.stop() for server in servers] == [0] * 4


def test_the_newest_start_wins_and_the_others_log_what_differs(tmp_path: Path, url: str) -> None:
    old = f"version: 1\nqueues:\n  q: {OPEN}\n  gone: {OPEN}\n  closed: {OPEN}\n"
    new = f"version: 1\nqueues:\n  q: {OPEN}\n  closed: {{read: [], write: []}}\n  come: {OPEN}\n"
    with Server(tmp_path / "old", old, DATABASE_URL=url) as older:
        assert older.api("gone").create().status == 201
        with Server(tmp_path / "new", new, DATABASE_URL=url) as newer:
            differs = "queue differs from this server's config, by that of a later start"
            seen = {older.wait_for(differs)["queue"] for _ in range(3)}
            assert seen == {"gone", "closed", "come"}
            before = older.stderr.count(differs)
            for server in (older, newer):
                assert server.api("gone").create().status == 404
                assert server.api("closed").create().status == 403
                assert server.api("come").create().status == 201
                assert server.api("q").create().status == 201
        with Server(tmp_path / "again", old, DATABASE_URL=url) as third:
            eventually(lambda: older.api("gone").create().status == 201)
            assert third.api("gone").create().status == 201
        assert older.stderr.count(differs) == before, "it is as its own config has it again"


def test_the_time_is_the_databases(
    tmp_path: Path, url: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = SystemSource.wall
    monkeypatch.setattr(SystemSource, "wall", lambda self: wall(self) + 86_400)
    (tmp_path / "config.yml").write_text(CONFIG)
    service = Service(launch_in(tmp_path, DATABASE_URL=url))
    ((before,),) = cluster.execute("SELECT extract(epoch FROM clock_timestamp())::bigint")
    created = Api(WsgiTransport(service.app), "q").made()["created"]
    ((after,),) = cluster.execute("SELECT extract(epoch FROM clock_timestamp())::bigint")
    service.stop()
    assert before - 1 <= created <= after + 1


def test_a_steered_clock_goes_on_from_where_it_was_steered_to() -> None:
    source = SteeredSource()
    at = source.elapsed()
    source.steer(1000.0, at=at)
    assert 1000.0 <= source.wall() < 1060.0
    source.steer(5000.0, at=at)
    assert 5000.0 <= source.wall() < 5060.0


class Heard:
    """Peers that count what they hear."""

    def __init__(self) -> None:
        self.jobs: list[Collection[int] | None] = []
        self.changes = 0

    def jobs_came(self, queue_ids: Collection[int] | None) -> None:
        self.jobs.append(queue_ids)

    def shared_changed(self) -> None:
        self.changes += 1


def test_while_the_link_is_down_everything_is_looked_at_again_and_again() -> None:
    def refused() -> "psycopg.Connection[Any]":
        raise psycopg.OperationalError

    heard = Heard()
    link = Link(refused, SteeredSource(), heard, "me")
    link.start()
    eventually(lambda: len(heard.jobs) >= 3)
    link.stop()
    assert set(heard.jobs) == {None}
    assert heard.changes >= 3
    assert not link.leads


def test_a_link_that_was_cut_comes_back(cluster: Cluster) -> None:
    heard = Heard()
    link = Link(cluster.connect, SteeredSource(), heard, "me")
    link.start()
    eventually(lambda: link.leads)
    cluster.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND query LIKE '%pg_try_advisory_lock%'"
        " OR query LIKE 'LISTEN%' AND pid <> pg_backend_pid() AND datname = 'postgres'"
    )
    eventually(lambda: len(heard.jobs) >= 3)
    eventually(lambda: link.leads)
    cluster.execute("SELECT pg_notify('jobengine', 'other jobs 7,8')")
    eventually(lambda: [7, 8] in heard.jobs)
    link.stop()


@pytest.mark.parametrize("payload", ["", "hi", "a b c d", "other jobs x", "other jobs ", "x y 7"])
def test_a_stray_notification_does_the_link_no_harm(cluster: Cluster, payload: str) -> None:
    heard = Heard()
    link = Link(cluster.connect, SteeredSource(), heard, "me")
    link.start()
    eventually(lambda: link.leads)
    cluster.execute("SELECT pg_notify('jobengine', %s)", payload)
    cluster.execute("SELECT pg_notify('jobengine', 'other jobs 9')")
    eventually(lambda: [9] in heard.jobs)
    assert link.leads
    link.stop()


def test_a_link_that_fails_is_made_anew(cluster: Cluster) -> None:
    class Failing(Heard):
        def shared_changed(self) -> None:
            super().shared_changed()
            if self.changes == 1:
                raise RuntimeError("for the test")

    heard = Failing()
    link = Link(cluster.connect, SteeredSource(), heard, "me")
    link.start()
    eventually(lambda: link.leads)
    link.stop()
    assert heard.changes > 1


def test_a_waiter_gets_a_job_that_was_locked_when_it_looked(
    two: list[Server], url: str, cluster: Cluster
) -> None:
    made = two[1].api().made()
    with ThreadPoolExecutor(1) as pool, cluster.connect(url.rpartition("/")[2]) as other:
        other.autocommit = False
        other.execute("SELECT id FROM job FOR UPDATE")
        waiting = two[0].api()
        answer = pool.submit(waiting.send, "GET", "/api/v1/jobs/next?wait=60")
        waiting.transport.sent.wait()  # type: ignore[attr-defined]  # an HttpTransport
        assert two[0].api().next().status == 204
        other.rollback()
        assert answer.result().json()["uid"] == made["uid"]


def test_a_wrong_secret_is_refused_and_nothing_is_touched(
    tmp_path: Path, url: str, cluster: Cluster
) -> None:
    with Server(tmp_path, CONFIG, DATABASE_URL=url) as server:
        made = server.api().made()
    everything = "SELECT (SELECT count(*) FROM queue), (SELECT count(*) FROM master_key)"
    with cluster.connect(url.rpartition("/")[2]) as connection:
        before = connection.execute(everything).fetchall()
        refused = Server(tmp_path, CONFIG.replace("  q:", "  z:"), DATABASE_URL=url, SECRET="wrong")
        refused.launch()
        code, printed = refused.result()
        assert code == 1
        assert "SECRET does not open PostgreSQL at 127.0.0.1" in printed
        assert connection.execute(everything).fetchall() == before
    with Server(tmp_path, CONFIG, DATABASE_URL=url) as server:
        assert server.api().listed() == [made]


def test_an_old_postgresql_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobengine.store.postgresql.requirements._OLDEST_VERSION", 99)
    with pytest.raises(CannotOpen, match="expected 99 or newer"):
        open_database(DatabaseUrl(url), b"secret")


def test_the_command_line_names_the_database_and_alembic_migrates_it(
    tmp_path: Path, url: str, cluster: Cluster
) -> None:
    env = {**os.environ, "SECRET": SECRET, "DATABASE_URL": url}
    for revision in ("upgrade head", "downgrade base", "upgrade head"):
        command = [sys.executable, "-m", "alembic", *revision.split()]
        subprocess.run(command, env=env, cwd=CHECKOUT, check=True)
    with Server(tmp_path, CONFIG, arguments=("--database-url", url)) as server:
        server.api().made()
    with cluster.connect(url.rpartition("/")[2]) as connection:
        assert connection.execute("SELECT count(*) FROM job").fetchall() == [(1,)]


def test_a_database_without_fsync_is_warned_of(tmp_path: Path) -> None:
    with Cluster(tmp_path / "postgresql", fsync="off") as careless:
        database = careless.new_database()
        with Server(tmp_path / "server", CONFIG, DATABASE_URL=database) as server:
            assert any("fsync off" in entry["event"] for entry in server.log)
