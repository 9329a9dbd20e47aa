"""PostgreSQL going away, at any moment: what is answered, what is lost, what comes back."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from jobengine.config.settings import DatabaseUrl
from jobengine.store.opening import open_database
from tests.harness.client import Answer, Api
from tests.harness.postgresql import Cluster
from tests.harness.proxy import Proxy
from tests.harness.server import Server
from tests.test_bad_input import assert_problem
from tests.test_crash import CLIENTS, CONFIG, Client, Ledger, check

TERMINATIONS = 50
_PATIENCE_SECONDS = 30
_LOAD_SECONDS_MAX = 120


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A PostgreSQL that the test may stop."""
    with Cluster(tmp_path / "postgresql") as running:
        yield running


def until_done(call: Callable[[], Answer], status: int) -> Answer:
    """Calls until that is the answer; every other answer is a 503 with Retry-After."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (answer := call()).status != status:
        assert answer.status in (200, 201, 503), answer
        assert answer.status != 503 or int(answer.headers["retry-after"]) > 0
        assert time.monotonic() < deadline, answer
    return answer


def ready(api: Api) -> Answer:
    return api.send("GET", "/readyz")


def test_nothing_acknowledged_is_lost_when_backends_are_terminated(
    tmp_path: Path, cluster: Cluster
) -> None:
    url = cluster.new_database()
    name = url.rpartition("/")[2]
    ledger = Ledger()
    with Server(tmp_path, CONFIG, DATABASE_URL=url) as server:
        clients = [Client(server.api(), ledger, seed=number) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        ended, deadline = 0, time.monotonic() + _LOAD_SECONDS_MAX
        while ended < TERMINATIONS or len(ledger.known) <= 100:  # on a slow machine it takes more
            assert time.monotonic() < deadline, "there was load"
            clients[0].join(0.05)
            ended += len(
                cluster.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    name,
                )
            )
        for client in clients:
            client.stopping = True
        for client in clients:
            client.join()
        api = server.api()
        until_done(lambda: ready(api), 200)
        check(api, ledger)
        assert api.create().status == 201


def test_a_restart_of_the_database_needs_no_restart_of_the_server(
    tmp_path: Path, own_cluster: Cluster
) -> None:
    with Server(tmp_path, CONFIG, DATABASE_URL=own_cluster.new_database()) as server:
        api = server.api()
        made = api.made()
        own_cluster.stop()
        assert_problem(until_done(lambda: api.create(), 503), 503)
        assert_problem(until_done(lambda: api.get(made["uid"]), 503), 503, "store-failed")
        assert_problem(until_done(lambda: ready(api), 503), 503)
        assert api.send("GET", "/livez").status == 200
        own_cluster.start()
        until_done(lambda: ready(api), 200)
        until_done(lambda: api.create(), 201)
        assert api.get(made["uid"]).json() == made


def test_the_database_killed_and_back_has_what_was_acknowledged(
    tmp_path: Path, own_cluster: Cluster
) -> None:
    ledger = Ledger()
    with Server(tmp_path, CONFIG, DATABASE_URL=own_cluster.new_database()) as server:
        for crash in range(3):
            before = len(ledger.known)
            clients = [Client(server.api(), ledger, seed=crash * 100 + n) for n in range(CLIENTS)]
            for client in clients:
                client.start()
            clients[0].join(0.5)
            own_cluster.stop(signal.SIGQUIT)  # an immediate shutdown: as a crash
            for client in clients:
                client.stopping = True
            for client in clients:
                client.join()
            own_cluster.start()
            api = server.api()
            until_done(partial(ready, api), 200)
            check(api, ledger)
            assert len(ledger.known) > before, "there was load"


@pytest.mark.parametrize(("when", "jobs"), [("before", {0}), ("during", {0, 1}), ("after", {1})])
def test_a_connection_cut_at_the_commit_leaves_the_outcome_unknown(
    tmp_path: Path, cluster: Cluster, when: str, jobs: set[int]
) -> None:
    url = cluster.new_database()
    with Proxy(cluster.port) as proxy:
        through = url.replace(str(cluster.port), str(proxy.port))
        with Server(tmp_path, CONFIG, DATABASE_URL=through) as server:
            api = server.api()
            proxy.arm(b"COMMIT\0", when)
            answer = api.create({"n": 1})
            assert proxy.cuts == 1
            assert_problem(answer, 503, "outcome-unknown")
            assert int(answer.headers["retry-after"]) > 0
            assert api.create({"n": 2}).status == 201, "the next call finds a new connection"
            assert len([job for job in api.listed() if job["content"]["n"] == 1]) in jobs


def test_a_connection_cut_before_the_commit_is_not_even_noticed(
    tmp_path: Path, cluster: Cluster
) -> None:
    url = cluster.new_database()
    with Proxy(cluster.port) as proxy:
        through = url.replace(str(cluster.port), str(proxy.port))
        with Server(tmp_path, CONFIG, DATABASE_URL=through) as server:
            api = server.api()
            first = api.made()
            for when in ("before", "during", "after"):
                calls: list[Callable[[], Answer]] = [
                    partial(api.create, {"n": 1}),
                    partial(api.update, first["uid"], priority=7),
                    api.next,
                ]
                for call in calls:
                    proxy.arm(b"job", when)
                    assert call().status in (200, 201)
            assert proxy.cuts == 9
            assert len(api.listed()) == 4


def test_a_database_that_is_not_there_is_no_start(tmp_path: Path) -> None:
    with Proxy(1) as nobody:
        port = nobody.port
    url = f"postgresql://user:hidden-password@127.0.0.1:{port}/jobs"
    server = Server(tmp_path, CONFIG, DATABASE_URL=url)
    server.launch()
    code, printed = server.result()
    assert code == 1
    assert "cannot be opened" in printed
    assert "hidden-password" not in printed


def test_a_password_is_in_no_error(tmp_path: Path, cluster: Cluster) -> None:
    host = f"127.0.0.1:{cluster.port}"
    for url in (
        f"postgresql://nobody:hidden@{host}/none",
        f"postgresql://nobody@{host}/none?password=hidden",
        f"postgresql://nobody:a@hidden@{host}/none",
        f"postgresql://nobody:a@b:hidden@{host}/none",
        f"postgresql://nobody:a/hidden@{host}/none",
        f"postgresql://nobody:pass@{host}/none?hidden=x",
    ):
        server = Server(tmp_path, CONFIG, DATABASE_URL=url)
        server.launch()
        code, printed = server.result()
        assert code in (1, 2), printed
        assert "cannot be opened" in printed or "is refused" in printed
        assert "Traceback" not in printed
        assert "hidden" not in printed.replace("hidden=x", "").replace('"hidden"', "")


def test_a_lock_that_is_not_to_be_had_holds_up_a_batch_once(
    tmp_path: Path, cluster: Cluster
) -> None:
    url = cluster.new_database()
    with (
        Server(tmp_path, CONFIG, DATABASE_URL=url) as server,
        cluster.connect(url.rpartition("/")[2]) as other,
        ThreadPoolExecutor(12) as pool,
    ):
        other.autocommit = False
        other.execute("LOCK TABLE job")
        calls = [pool.submit(server.api().create) for _ in range(12)]
        answers = [call.result() for call in calls]
        assert {answer.status for answer in answers} == {503}
        assert assert_problem(ready(server.api()), 503)
        other.rollback()
        until_done(lambda: ready(server.api()), 200)
        assert server.api().create().status == 201
        assert len(server.api().listed()) == 1, "what was refused was not done"


def test_a_database_that_can_only_be_read_is_not_ready(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.new_database()
    name = url.rpartition("/")[2]
    with Server(tmp_path, CONFIG, DATABASE_URL=url) as server:
        api = server.api()
        made = api.made()
        cluster.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        cluster.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name
        )
        assert_problem(until_done(lambda: api.create(), 503), 503)
        assert_problem(api.create(), 503)  # on a connection that is not lost
        assert_problem(ready(api), 503, "store-failed")
        assert api.get(made["uid"]).json() == made
        cluster.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        until_done(lambda: ready(api), 200)
        assert api.create().status == 201


def test_commits_are_synchronous_whatever_the_database_is_set_to(
    tmp_path: Path, own_cluster: Cluster
) -> None:
    url = own_cluster.new_database()
    database = open_database(DatabaseUrl(url), b"secret")
    with database.writer.connect() as connection:
        setting = "SHOW synchronous_commit"
        assert connection.exec_driver_sql(setting).scalar_one() == "on"
        own_cluster.execute("ALTER SYSTEM SET synchronous_commit = off")
        own_cluster.execute("SELECT pg_reload_conf()")
        assert connection.exec_driver_sql(setting).scalar_one() == "on"
    database.close()
