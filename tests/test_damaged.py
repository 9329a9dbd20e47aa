"""Contents that do not open, on PostgreSQL: set aside, and everything else goes on."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import Running
from tests.harness import command
from tests.harness.client import Api, JobDict
from tests.harness.postgresql import Cluster
from tests.harness.server import Server
from tests.test_waiting import parked

SECRET_WORD = "credit card"  # noqa: S105  what no log may have
SHORT, LONG = {"word": SECRET_WORD}, {"word": SECRET_WORD * 1000}
# Of the master key's id, the nonce, the ciphertext; cut off, and nothing left.
DAMAGE = {
    "key": "set_byte(content, 0, 77)",
    "nonce": "set_byte(content, 5, get_byte(content, 5) # 1)",
    "text": "set_byte(content, 20, get_byte(content, 20) # 1)",
    "end": "substring(content for 20)",
    "all": "''",
}


@pytest.fixture(scope="module")
def server(running: Running) -> Server:
    return running.server("postgresql")


@pytest.fixture
def api(server: Server, queue: str) -> Api:
    return server.api(queue)


class Spoiler:
    """Damages contents in a database."""

    def __init__(self, cluster: Cluster, url: str) -> None:
        self._cluster, self._url = cluster, url

    def lose_chunks(self) -> None:
        """Takes away what PostgreSQL keeps of the newest long value beside its row (TOAST)."""
        with self._cluster.connect(self._url.rpartition("/")[2]) as connection:

            def rows(statement: str) -> list[Any]:
                return connection.execute(statement).fetchall()

            ((toast,),) = rows("SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'job'")
            newest = f"(SELECT max(chunk_id) FROM {toast})"  # noqa: S608
            chunks = rows(f"SELECT ctid::text FROM {toast} WHERE chunk_id = {newest}")  # noqa: S608
            tids = ", ".join(f"'{tid}'" for (tid,) in chunks)
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_surgery")
            connection.execute(f"SELECT heap_force_kill('{toast}'::regclass, ARRAY[{tids}]::tid[])")

    def spoil(self, *jobs: JobDict, how: str = "text") -> None:
        uids = ", ".join(f"'\\x{UUID(job['uid']).hex}'" for job in jobs)
        statement = f"UPDATE job SET content = {DAMAGE[how]} WHERE uid IN ({uids})"  # noqa: S608
        self._cluster.execute_in(self._url, statement)


@pytest.fixture
def spoiler(cluster: Cluster, server: Server) -> Spoiler:
    return Spoiler(cluster, server.env["DATABASE_URL"])


def without_content(job: JobDict) -> JobDict:
    return job | {"content": None}


@pytest.mark.parametrize("content", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_claim_sets_a_damaged_job_aside_and_gets_the_next(
    api: Api, server: Server, spoiler: Spoiler, how: str, content: Any
) -> None:
    damaged, good = api.made(content=content), api.made(content=content)
    spoiler.spoil(damaged, how=how)
    claimed = api.next()
    assert (claimed.status, claimed.json()["uid"]) == (200, good["uid"])
    failed = api.get(damaged["uid"])
    assert failed.status == 200
    assert failed.json() == without_content(damaged) | {
        "state": "failed",
        "last_updated": failed.json()["last_updated"],
    }
    assert api.next().status == 204
    told = server.wait_for("job set aside as failed", queue=api.queue)
    assert told["job"] == damaged["uid"]
    assert SECRET_WORD not in server.stderr


@pytest.mark.parametrize("damaged", [1, 2, 40])
def test_a_bulk_claim_gets_as_many_as_there_are_behind_the_damaged(
    api: Api, spoiler: Spoiler, damaged: int
) -> None:
    drafts = [{"content": SHORT, "valid_for": 600, "priority": 50}] * (damaged + 3)
    made = api.send("PUT", "/api/v1/jobs/create", drafts).json()
    spoiler.spoil(*made[1 : damaged + 1])
    claimed = api.send("GET", "/api/v1/jobs/next?count=3").json()
    good = [made[0], *made[damaged + 1 :]]
    assert [job["uid"] for job in claimed] == [job["uid"] for job in good[:3]]
    assert [job["uid"] for job in api.listed("failed")] == [j["uid"] for j in made[1 : damaged + 1]]


def test_an_update_that_claims_the_next_passes_a_damaged_job(api: Api, spoiler: Spoiler) -> None:
    done, damaged, good = api.made("inprogress"), api.made(), api.made()
    spoiler.spoil(damaged)
    path = f"/api/v1/jobs/{done['uid']}?next=1"
    assert api.send("POST", path, {"status": "complete"}).json()["uid"] == good["uid"]


def test_a_list_goes_on_past_damaged_jobs(api: Api, spoiler: Spoiler) -> None:
    made = [api.made(content=content) for content in (SHORT, LONG, SHORT, LONG)]
    spoiler.spoil(*made[1:3])
    shown = [made[0], without_content(made[1]), without_content(made[2]), made[3]]
    assert api.listed() == shown
    assert api.listed(query="?limit=2") == shown[:2]


def test_a_damaged_job_can_be_updated_mended_and_deleted(api: Api, spoiler: Spoiler) -> None:
    mended, kept, deleted = (api.made(priority=priority) for priority in (3, 2, 1))
    spoiler.spoil(mended, kept, deleted)
    assert api.update(kept["uid"], status="complete").json()["content"] is None
    bulk = [{"uid": kept["uid"], "status": "queued"}, {"uid": mended["uid"], "content": {"n": 1}}]
    answers = api.send("POST", "/api/v1/jobs", bulk).json()
    assert [job["content"] for job in answers] == [None, {"n": 1}]
    assert api.delete(deleted["uid"]).status == 204
    assert api.next().json()["content"] == {"n": 1}
    assert api.next().status == 204, "what is put back is set aside again"
    assert api.get(kept["uid"]).json()["state"] == "failed"


def test_a_claim_that_waits_is_not_ended_by_a_damaged_job(
    api: Api, server: Server, spoiler: Spoiler
) -> None:
    damaged, admin = api.made("failed"), server.api(api.queue, "admin")
    spoiler.spoil(damaged)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.api(api.queue).send, "GET", "/api/v1/jobs/next?wait=30")
        while parked(admin) == 0:
            assert not waiting.done()
        api.update(damaged["uid"], status="queued")
        assert api.get(damaged["uid"]).json()["state"] == "failed"
        good = api.made()
        assert waiting.result().json()["uid"] == good["uid"]
    report = admin.send("GET", f"/api/v1/queues/{api.queue}").json()
    assert report["jobs"] == {"queued": 0, "inprogress": 1, "complete": 0, "failed": 1}


def test_a_move_names_a_damaged_content_and_goes_on_once_it_is_mended(
    tmp_path: Path, cluster: Cluster
) -> None:
    url, target = cluster.new_database(), tmp_path / "target" / "jobs.queuedb"
    target.parent.mkdir()
    arguments = ("move", "--to", str(target))
    config = "version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n"
    with Server(tmp_path, config, DATABASE_URL=url) as server:
        api = server.api()
        damaged = api.made()
        Spoiler(cluster, url).spoil(damaged)
        server.stop()
    refused = command.run(*arguments, DATABASE_URL=url)
    assert refused.returncode == 1
    assert f"the content of the job {damaged['uid']} is damaged" in refused.stderr
    assert "start the move again" in refused.stderr
    with Server(tmp_path, config, DATABASE_URL=url) as server:
        server.api().delete(damaged["uid"])
    assert command.run(*arguments, DATABASE_URL=url).returncode == 0


@pytest.mark.parametrize("size", [3000, 9000], ids=["read with its job", "read by itself"])
def test_a_content_that_postgresql_cannot_read_is_a_damaged_one(
    api: Api, server: Server, spoiler: Spoiler, size: int
) -> None:
    damaged = api.made(content={"filler": "x" * size})
    spoiler.lose_chunks()
    good = api.made()
    shown = without_content(damaged)
    assert api.get(damaged["uid"]).json() == shown
    assert api.listed() == [shown, good]
    assert api.update(damaged["uid"], priority=50).json() == shown
    claimed = api.send("GET", "/api/v1/jobs/next?count=5").json()
    assert [job["uid"] for job in claimed] == [good["uid"]]
    assert server.wait_for("job set aside as failed", queue=api.queue)["job"] == damaged["uid"]
    assert [job["content"] for job in api.listed("failed")] == [None]
    assert api.update(damaged["uid"], content={"n": 1}).json()["content"] == {"n": 1}
    assert api.delete(damaged["uid"]).status == 204


def test_verify_and_move_name_a_content_that_postgresql_cannot_read(
    tmp_path: Path, cluster: Cluster
) -> None:
    url = cluster.new_database()
    config = "version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n"
    with Server(tmp_path, config, DATABASE_URL=url) as server:
        damaged = server.api().made(content={"filler": "x" * 3000})
        Spoiler(cluster, url).lose_chunks()
        server.api().made(content={"filler": "x" * 9000})
    for arguments in (("verify",), ("move", "--to", str(tmp_path / "target.queuedb"))):
        done = command.run(*arguments, DATABASE_URL=url)
        assert done.returncode == 1
        assert f"the content of the job {damaged['uid']} is damaged" in done.stderr
