"""PostgreSQL with fsync=on, synchronous_commit=on: a queue written by hand, SKIP LOCKED.

One commit a call: an insert; a claim, which is an UPDATE of the first queued row that
nobody else holds; a completion. So a completed job costs two commits.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.figure import Scale
from benchmarks.peers.common import PAYLOAD, Step, lacking, rate, scratch

SETTING = "PostgreSQL with fsync=on, synchronous_commit=on; SKIP LOCKED by psycopg"

_FILL = 5_000  # jobs for each second of work
_TABLE = """
CREATE TABLE job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    priority int NOT NULL,
    state text NOT NULL DEFAULT 'queued',
    content bytea NOT NULL,
    claimed_at timestamptz,
    completed_at timestamptz
);
CREATE INDEX job_queued ON job (priority DESC, id) WHERE state = 'queued';
"""
_FILLED = """
INSERT INTO job (priority, content) SELECT 1 + n * 37 %% 100, %s FROM generate_series(1, %s) AS n
"""
_INSERT = "INSERT INTO job (priority, content) VALUES (50, %s)"
_CLAIM = """
UPDATE job SET state = 'claimed', claimed_at = now() WHERE id = (
    SELECT id FROM job WHERE state = 'queued'
    ORDER BY priority DESC, id FOR UPDATE SKIP LOCKED LIMIT 1
) RETURNING id, content
"""
_COMPLETE = "UPDATE job SET state = 'completed', completed_at = now() WHERE id = %s"


def missing() -> str | None:
    """What is not installed, as a sentence."""
    lacks = lacking({}, ("psycopg",))
    if lacks is not None:
        return lacks
    from tests.harness.postgresql import program

    if program("postgres") is None or program("initdb") is None:
        return "needs PostgreSQL's server (apt install postgresql)"
    # The server refuses to run as root.
    return lacking({"setpriv": "util-linux"}) if os.geteuid() == 0 else None


def enqueue_rate(scale: Scale, folder: Path) -> float:
    """Jobs inserted a second, one a commit, by CLIENTS processes of one connection each."""
    with serving(folder) as port:
        with _connect(port) as connection:
            connection.execute(_TABLE)
        return rate(_insert, scale.seconds, port)


def work_rate(scale: Scale, folder: Path) -> float:
    """Jobs claimed and completed a second, each in a commit of its own."""
    with serving(folder) as port:
        with _connect(port) as connection:
            connection.execute(_TABLE)
            connection.execute(_FILLED, (PAYLOAD, int(scale.seconds * _FILL)))
            connection.execute("VACUUM ANALYZE job")
        return rate(_work, scale.seconds, port)


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """A PostgreSQL of its own, with its files in the folder for as long; gives its port.

    Its only user is `postgres`, without a password.
    """
    from tests.harness.postgresql import Cluster

    with scratch(folder) as files, Cluster(files) as cluster:
        yield cluster.port


def _connect(port: int) -> Any:
    # Each statement commits by itself, without a BEGIN and a COMMIT on the wire.
    return import_module("psycopg").connect(
        host="127.0.0.1", port=port, user="postgres", dbname="postgres", autocommit=True
    )


def _insert(port: int) -> Step:
    connection = _connect(port)

    def step() -> int:
        return int(connection.execute(_INSERT, (PAYLOAD,)).rowcount)

    return step


def _work(port: int) -> Step:
    connection = _connect(port)

    def step() -> int:
        claimed = connection.execute(_CLAIM).fetchone()
        if claimed is None:
            return 0
        return int(connection.execute(_COMPLETE, (claimed[0],)).rowcount)

    return step
