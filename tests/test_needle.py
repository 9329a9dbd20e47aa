"""No plaintext on disk: every file that the process wrote, unnamed ones included."""

import os
import socket
from contextlib import suppress
from pathlib import Path

from tests.harness.postgresql import Cluster
from tests.harness.server import SECRET, Server

PAYLOAD, QUEUE, SERVICE = "payload-needle", "queue-needle", "service-needle"
CONFIG = f"version: 1\nqueues:\n  {QUEUE}: {{read: [{SERVICE}], write: [{SERVICE}]}}\n"
LIST = (
    f"GET /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-Name: {SERVICE}\r\nX-Queue: {QUEUE}\r\n\r\n"
).encode()


def haystacks(server: Server) -> dict[str, bytes]:
    """Each regular file that the process has open or that lies in its folder, with its bytes."""
    found = {
        path.name: path.read_bytes()
        for path in server.folder.rglob("*")
        if path.is_file() and path != server.config
    }
    descriptors = Path(f"/proc/{server.process.pid}/fd")
    if os.geteuid() != 0:
        return found  # nobody but root may look into the server's process (hardening.py)
    for link in descriptors.iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            target = str(link.readlink())
            if not target.startswith(("socket:", "pipe:", "anon_inode:", "/dev/", "/proc/")):
                found[target] = link.read_bytes()
    return found


def search(files: dict[str, bytes]) -> list[tuple[str, str]]:
    return [
        (name, needle)
        for name, data in files.items()
        for needle in (PAYLOAD, QUEUE, SERVICE, SECRET)
        if needle.encode() in data
    ]


def test_no_plaintext_while_a_slow_reader_stalls_a_large_list(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    server = Server(tmp_path / "data", CONFIG, TMPDIR=str(temporary)).start()
    api = server.api(QUEUE, SERVICE)
    filler = PAYLOAD * 40_000
    for index in range(40):
        api.create({"filler": filler, "n": index}, priority=1 + index)
    for _ in range(10):
        uid = api.next().json()["uid"]
        assert api.update(uid, content={"new filler": filler}).status == 200
    with socket.create_connection(("127.0.0.1", server.port)) as stalled:
        stalled.sendall(LIST)
        assert PAYLOAD.encode() in stalled.recv(100_000)
        assert api.create({"more": PAYLOAD}).status == 201, "others are served meanwhile"
        files = haystacks(server)
        assert {"jobs.queuedb", "jobs.queuedb-wal", "jobs.queuedb-shm"} <= set(files)
        assert sum(map(len, files.values())) > 30_000_000
        assert search(files) == []
        assert list(temporary.iterdir()) == []
    assert server.stop() == 0
    left = {path.name: path.read_bytes() for path in (tmp_path / "data").glob("jobs*")}
    assert search(left) == []
    assert PAYLOAD not in server.stderr


def test_no_payload_and_no_secret_in_the_data_directory_of_postgresql(
    tmp_path: Path, cluster: Cluster
) -> None:
    url = cluster.new_database()
    server = Server(tmp_path, CONFIG, DATABASE_URL=url).start()
    api = server.api(QUEUE, SERVICE)
    for index in range(20):
        api.create({"filler": PAYLOAD * (1 + index * 1000), "n": index})
    for _ in range(5):
        uid = api.next().json()["uid"]
        assert api.update(uid, content={"new filler": PAYLOAD * 100}).status == 200
    cluster.execute("CHECKPOINT")
    found = search(written(cluster, url))
    assert {needle for _, needle in found} == {QUEUE, SERVICE}, "names are stored in the clear"
    assert server.stop() == 0
    assert PAYLOAD not in server.stderr


def written(cluster: Cluster, url: str) -> dict[str, bytes]:
    """All files of the cluster, but for those of its other databases."""
    own = "SELECT oid FROM pg_database WHERE datname = current_database()"
    ((number,),) = cluster.execute_in(url, own)
    base = cluster.data / "base"
    others = {path for path in base.iterdir() if path.name != str(number)}
    files = {}
    for path in cluster.data.rglob("*"):
        if path.is_file() and path.parent not in others:
            with suppress(FileNotFoundError):  # PostgreSQL is at work
                files[str(path)] = path.read_bytes()
    return files


def test_the_search_would_find_a_needle(tmp_path: Path) -> None:
    assert search({"file": f"x{PAYLOAD}".encode()}) == [("file", PAYLOAD)]


def test_no_read_transaction_outlives_a_chunk_of_a_stalled_list(tmp_path: Path) -> None:
    """The log can be emptied while a list is stalled: nobody holds on to it."""
    server = Server(tmp_path, CONFIG).start()
    api = server.api(QUEUE, SERVICE)
    for index in range(40):
        api.create({"filler": "x" * 900_000, "n": index})
    log = tmp_path / "jobs.queuedb-wal"
    with socket.create_connection(("127.0.0.1", server.port)) as stalled:
        stalled.sendall(LIST)
        assert stalled.recv(1000)
        before = log.stat().st_size
        for _ in range(100):
            api.create({"filler": "x" * 900_000})
        assert log.stat().st_size < before + 30_000_000, "the log was reused, not grown by 90 MB"
    assert server.stop() == 0
