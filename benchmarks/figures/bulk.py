"""Many jobs a call, against the bare database and against each other."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import uuid_utils

from benchmarks.figure import Figure, Result, Scale, in_turn
from benchmarks.load import BULK, load
from benchmarks.peers import pgboss
from benchmarks.service import SECRET, fill, serving
from jobengine.store.migrate import upgrade
from jobengine.store.sqlcipher.database import SqlcipherFile
from jobengine.store.tables import statements

_CLIENTS = 4
_CLAIMS = 100_000  # more jobs a second than a bulk claim can use up


def create_rate(port: int, scale: Scale) -> float:
    """Jobs a second by bulk creates."""
    return load(port, "bulk-create", _CLIENTS, scale.seconds).rate * BULK


def _against_raw(scale: Scale, folder: Path) -> Result:
    with serving(folder / "service") as server:
        return in_turn(
            lambda: create_rate(server.port, scale),
            lambda: _raw_rate(folder / "raw", scale),
            scale,
            "jobs/s",
        )


def _raw_rate(folder: Path, scale: Scale) -> float:
    """Jobs a second by executemany and a commit for 500, in this process, nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid_utils.uuid7()}.queuedb"
    file = SqlcipherFile(path, SECRET.encode())
    upgrade(file)
    with file.writer.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO queue (id, name, readers, writers, window, keep)"
            " VALUES (1, 'q', '[]', '[]', 600, 3600)"
        )
    now, jobs, spent = int(time.time()), 0, 0.0
    while spent < scale.seconds:
        rows = [
            (
                *(uuid_utils.uuid7().bytes, 1, 0, 50, now, now, now + 600, 600),
                *(b'{"job":"content"}', now, "both", 0, now, "both", "both", None),
            )
            for _ in range(BULK)
        ]
        began = time.perf_counter()
        with file.writer.begin() as connection:
            statements.INSERT.many(connection, rows)
        spent += time.perf_counter() - began
        jobs += BULK
    file.close()
    path.unlink()
    return jobs / spent


def _claim(scale: Scale, folder: Path) -> Result:
    fill(folder / "filled", int(_CLAIMS * scale.seconds * scale.rounds))
    with serving(folder / "filled") as full, serving(folder / "empty") as empty:
        return in_turn(
            lambda: load(full.port, "bulk-next", _CLIENTS, scale.seconds).rate * BULK,
            lambda: create_rate(empty.port, scale),
            scale,
            "jobs/s",
        )


def _complete(scale: Scale, folder: Path) -> Result:
    script = "bulk-complete-tiny" if scale.name == "tiny" else "bulk-complete"
    fill(folder / "filled", 25 * BULK * _CLIENTS * scale.rounds)
    with serving(folder / "filled") as full, serving(folder / "empty") as empty:
        return in_turn(
            lambda: load(full.port, script, _CLIENTS, 30).rate * BULK,
            lambda: create_rate(empty.port, scale),
            scale,
            "jobs/s",
        )


def _against_pgboss(scale: Scale, folder: Path) -> Result:
    with serving(folder / "service") as server:
        return in_turn(
            lambda: create_rate(server.port, scale),
            lambda: pgboss.bulk_enqueue_rate(scale, folder / "pgboss"),
            scale,
            "jobs/s",
        )


def _lone_beside(scale: Scale, folder: Path) -> Result:
    """The median time of a lone create ÷ that of the bulk creates that run meanwhile."""
    with serving(folder) as server, ThreadPoolExecutor(1) as pool:
        pairs = []
        for _ in range(scale.rounds):
            clients, seconds = scale.connections, 2 * scale.seconds
            bulk = pool.submit(load, server.port, "bulk-create", clients, seconds)
            time.sleep(scale.seconds / 2)  # until all of them have begun
            lone = load(server.port, "create", 1, scale.seconds)
            pairs.append((lone.median_seconds * 1e3, bulk.result().median_seconds * 1e3))
    return Result(
        ratio=median(a / b for a, b in pairs),
        above=median(a for a, _ in pairs),
        below=median(b for _, b in pairs),
        unit="ms",
    )


FIGURES = [
    Figure(
        name="bulk-create",
        title=f"bulk create, {BULK} a call, 4 clients ÷ raw SQLCipher, {BULK} a commit",
        bound=("at least", 0.5),
        run=_against_raw,
    ),
    Figure(
        name="bulk-claim",
        title=f"bulk claim ÷ bulk create, {BULK} a call",
        bound=("at least", 1.0),
        run=_claim,
    ),
    Figure(
        name="bulk-complete",
        title=f"bulk complete ÷ bulk create, {BULK} a call",
        bound=("at least", 1.0),
        run=_complete,
    ),
    Figure(
        name="lone-beside-bulk",
        title=f"a lone create beside 64 bulk clients ÷ their bulk creates, {BULK} a call, medians",
        bound=("at most", 0.25),
        run=_lone_beside,
    ),
    Figure(
        name="bulk-pgboss",
        title=f"bulk create ÷ pg-boss insert(), {BULK} a call",
        bound=("at least", 1.2),
        run=_against_pgboss,
        needs=pgboss.missing,
    ),
]
