"""What a PostgreSQL must be, what is said where it is not, and two JobEngines in one database."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from jobengine.config.settings import DatabaseUrl
from jobengine.domain.errors import CannotOpen
from jobengine.store.database import Use
from jobengine.store.opening import open_database
from jobengine.store.postgresql.scope import Scope
from tests.harness import command
from tests.harness.pgbouncer import PROGRAM, PgBouncer
from tests.harness.postgresql import Cluster
from tests.harness.server import SECRET, Server
from tests.test_servers import LEADS, eventually

OPEN = "{read: ['*'], write: ['*']}"
CONFIG = f"version: 1\nqueues:\n  q: {OPEN}\n"
_numbers = itertools.count()


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.new_database()


def refused(folder: Path, url: str) -> str:
    """What a server prints that does not start on the database; it is one line."""
    server = Server(folder / f"refused{next(_numbers)}", CONFIG, DATABASE_URL=url)
    server.launch()
    code, printed = server.result()
    assert code == 1
    assert printed.count("\n") == 1, printed
    return printed


def in_schema(url: str, schema: str) -> str:
    return f"{url}?options=-csearch_path%3D{schema}"


def leads(server: Server) -> bool:
    return any(entry["event"] == LEADS for entry in server.log)


def test_two_installations_in_two_schemas_both_lead_and_share_nothing(
    tmp_path: Path, url: str, cluster: Cluster
) -> None:
    cluster.execute_in(url, "CREATE SCHEMA other")
    with (
        Server(tmp_path / "one", CONFIG, DATABASE_URL=url) as one,
        Server(tmp_path / "two", CONFIG, DATABASE_URL=in_schema(url, "other")) as two,
    ):
        one.api().made()
        assert two.api().next().status == 204
        eventually(lambda: leads(one) and leads(two))
        with ThreadPoolExecutor(1) as pool:
            waiting = two.api()
            answer = pool.submit(waiting.send, "GET", "/api/v1/jobs/next?wait=60")
            waiting.transport.sent.wait()  # type: ignore[attr-defined]  # an HttpTransport
            made = two.api().made()
            assert answer.result().json()["uid"] == made["uid"]
        one.stop()
        # Alone in its schema, while the other's server runs.
        moved = command.run("move", "--database-url", url, "--to", str(tmp_path / "moved"))
        assert moved.returncode == 0, moved.stderr
        target = in_schema(url, "other")
        assert (
            "in use by a server"
            in command.run("move", "--database-url", target, "--to", "x").stderr
        )


def test_the_schema_public_has_the_locks_and_the_channel_of_every_version_before() -> None:
    public = Scope()
    keys = (public.migrating, public.shared, public.leader, public.serving)
    assert keys == (0x6A6F6200, 0x6A6F6201, 0x6A6F6202, 0x6A6F6203)
    assert public.channel == "jobengine"


@pytest.mark.parametrize("oid", [2200, 16385, 2**31, 2**32 - 1])
def test_every_other_schema_has_locks_and_a_channel_of_its_own(cluster: Cluster, oid: int) -> None:
    scope = Scope(oid)
    keys = {scope.migrating, scope.shared, scope.leader, scope.serving}
    assert len(keys) == 4
    assert all(-(2**63) <= key < 2**63 for key in keys)
    assert keys.isdisjoint(vars(Scope()).values())
    assert keys.isdisjoint(vars(Scope(oid - 1)).values())
    with cluster.connect() as connection:
        assert scope.take_alone(connection)


@pytest.fixture
def pooled(
    tmp_path: Path, url: str, cluster: Cluster, request: pytest.FixtureRequest
) -> Iterator[str]:
    if PROGRAM is None:
        pytest.skip("PgBouncer is not installed")
    with PgBouncer(tmp_path / "pgbouncer", cluster.port, request.param) as pooler:
        yield pooler.url(url)


@pytest.mark.parametrize("pooled", ["transaction"], indirect=True)
@pytest.mark.parametrize("use", list(Use))
def test_a_pooler_that_changes_sessions_is_refused(pooled: str, use: Use) -> None:
    place = DatabaseUrl(pooled)
    with pytest.raises(CannotOpen, match="pool_mode = session"):
        open_database(place, b"secret", use)
    with ExitStack() as others:  # which leave it several sessions to give
        for _ in range(3):
            other = others.enter_context(psycopg.connect(pooled.replace("+psycopg", "")))
            other.execute("SELECT 1", prepare=False)
    with pytest.raises(CannotOpen, match="pool_mode = session"):
        open_database(place, b"secret", use)


@pytest.mark.parametrize("pooled", ["transaction"], indirect=True)
def test_such_a_pooler_is_named_to_the_operator(tmp_path: Path, pooled: str) -> None:
    assert "pool_mode = transaction" in refused(tmp_path, pooled)


@pytest.mark.parametrize("pooled", ["session"], indirect=True)
def test_a_pooler_in_session_mode_serves(tmp_path: Path, pooled: str) -> None:
    with Server(tmp_path / "server", CONFIG, DATABASE_URL=pooled) as server:
        made = server.api().made()
        assert server.api().next().json()["uid"] == made["uid"]
        eventually(lambda: leads(server))


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_of_another_encoding_is_refused(
    tmp_path: Path, cluster: Cluster, encoding: str
) -> None:
    made = cluster.new_database(f"ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C'")
    assert f"has the encoding {encoding}: expected UTF8" in refused(tmp_path, made)


@pytest.mark.parametrize(
    "parameters",
    [
        "client_encoding=latin1",
        "options=-cclient_encoding%3Dlatin1",
        "options=-cstandard_conforming_strings%3Doff",
        "options=-cdefault_transaction_isolation%3Dserializable",
        "options=-cDateStyle%3DGerman%20-cbytea_output%3Descape%20-cextra_float_digits%3D-15",
    ],
)
def test_settings_in_the_url_do_no_harm(tmp_path: Path, url: str, parameters: str) -> None:
    with Server(tmp_path, CONFIG, DATABASE_URL=f"{url}?{parameters}") as server:
        made = server.api().made(content={"é": "\\' ü € 🎉"})
        assert server.api().get(made["uid"]).json() == made
        assert server.api().next().json()["content"] == {"é": "\\' ü € 🎉"}


def test_a_database_that_is_read_only_is_refused(
    tmp_path: Path, url: str, cluster: Cluster
) -> None:
    name = url.rpartition("/")[2]
    cluster.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert "default_transaction_read_only is on" in refused(tmp_path, url)


def test_a_standby_is_refused_and_can_be_verified(tmp_path: Path) -> None:
    with Cluster(tmp_path / "postgresql", fsync="off") as cluster:
        url = cluster.new_database()
        with Server(tmp_path / "server", CONFIG, DATABASE_URL=url) as server:
            server.api().made()
        cluster.stop()
        (cluster.data / "standby.signal").touch()
        cluster.start()
        assert "is a standby, which cannot be written" in refused(tmp_path, url)
        verified = command.run("verify", "--database-url", url)
        assert verified.returncode == 0, verified.stderr


def test_a_user_who_may_not_create_tables_is_told_how_to_be_let(
    tmp_path: Path, url: str, cluster: Cluster
) -> None:
    cluster.execute_in(url, "CREATE USER visitor")
    cluster.execute_in(url, "REVOKE CREATE ON SCHEMA public FROM public")
    theirs = url.replace("postgres@", "visitor@")
    assert 'GRANT CREATE ON SCHEMA "public" TO "visitor"' in refused(tmp_path, theirs)
    cluster.execute_in(url, "GRANT CREATE ON SCHEMA public TO visitor")
    with Server(tmp_path / "server", CONFIG, DATABASE_URL=theirs) as server:
        server.api().made()
    cluster.execute_in(url, "REVOKE CREATE ON SCHEMA public FROM visitor")
    with Server(tmp_path / "server", CONFIG, DATABASE_URL=theirs) as server:
        assert len(server.api().listed()) == 1, "it needs the right to make tables alone"


def test_a_search_path_without_a_schema_is_refused(tmp_path: Path, url: str) -> None:
    printed = refused(tmp_path, in_schema(url, "nowhere"))
    assert "has no schema to work in: search_path is nowhere" in printed


def test_tables_of_another_schema_are_not_taken_for_those_of_the_first(
    tmp_path: Path, url: str, cluster: Cluster
) -> None:
    with Server(tmp_path / "one", CONFIG, DATABASE_URL=url) as server:
        server.api().made()
    cluster.execute_in(url, "CREATE SCHEMA other")
    printed = refused(tmp_path, in_schema(url, "other,public"))
    assert "begins with the schema other" in printed
    assert "the one of the schema public" in printed


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (
            "CREATE TABLE alembic_version (version_num text); INSERT INTO {v} VALUES ('ae10')",
            "ae10",
        ),
        (
            "CREATE TABLE alembic_version (version_num text); INSERT INTO {v} VALUES ('0001')",
            "0001",
        ),
        (
            "CREATE TABLE alembic_version (version_num text);"
            "INSERT INTO {v} VALUES ('ae10'), ('27c6')",
            "another application's",
        ),
        (
            "CREATE TABLE alembic_version (version_num text); INSERT INTO {v} VALUES ('0011');"
            "CREATE TABLE job (id int); CREATE TABLE queue (id int)",
            "another application's",
        ),
        ("CREATE TABLE job (id int)", "has not made, or whose alembic_version is gone: job"),
        ("CREATE TABLE queue (id int)", "alembic_version is gone: queue"),
        ("CREATE TABLE master_key (id int)", "alembic_version is gone: master_key"),
    ],
)
def test_another_applications_tables_are_refused(
    tmp_path: Path, url: str, cluster: Cluster, statements: str, expected: str
) -> None:
    cluster.execute_in(url, statements.format(v="alembic_version"))
    printed = refused(tmp_path, url)
    assert expected in printed
    assert "search_path" in printed
    assert "newer" not in printed
    cluster.execute_in(url, "CREATE SCHEMA jobengine")
    with Server(tmp_path / "server", CONFIG, DATABASE_URL=in_schema(url, "jobengine")) as server:
        server.api().made()


@pytest.mark.parametrize(
    ("has", "wants", "asks"),
    [
        (Use.SERVE, Use.ALONE, "pg_try_advisory_lock"),
        (Use.ALONE, Use.ALONE, "pg_try_advisory_lock"),
        (Use.ALONE, Use.SERVE, "pg_try_advisory_lock_shared"),
    ],
)
def test_a_session_that_is_just_ending_is_waited_for(
    url: str, cluster: Cluster, has: Use, wants: Use, asks: str
) -> None:
    place, secret = DatabaseUrl(url), SECRET.encode()
    ending = open_database(place, secret, has)
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(open_database, place, secret, wants)
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND query LIKE %s"
        name = url.rpartition("/")[2]
        eventually(lambda: bool(cluster.execute(waiting, name, f"%{asks}(%")))
        ending.close()
        opening.result().close()
