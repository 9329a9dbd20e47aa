"""What SQLite's own errors call for: whether they concern one call, or all of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlcipher3 import dbapi2 as sqlcipher

from jobengine.domain.errors import StoreFailed
from jobengine.store.failures import cause, concerns_all, is_damage
from jobengine.store.writing.operations import Create
from tests.test_writer import Store


def opened(path: Path, options: str = "") -> Any:
    return sqlcipher.connect(f"file://{path}{options}", uri=True, isolation_level=None, timeout=0)


def read_only(path: Path) -> None:
    opened(path, "?mode=ro").execute("INSERT INTO t VALUES ('')")


def full(path: Path) -> None:
    connection = opened(path)
    connection.execute("PRAGMA max_page_count = 1")
    connection.execute("INSERT INTO t VALUES (?)", ("x" * 9000,))


def busy(path: Path) -> None:
    holder = opened(path)
    holder.execute("BEGIN IMMEDIATE")
    opened(path).execute("BEGIN IMMEDIATE")


def cannot_open(path: Path) -> None:
    opened(path.with_name("absent"), "?mode=ro").execute("SELECT 1 FROM t")


def damaged(path: Path) -> None:
    page = bytearray(path.read_bytes())
    page[4096:] = bytes(len(page) - 4096)
    path.write_bytes(page)
    opened(path).execute("SELECT * FROM t").fetchall()


def no_database(path: Path) -> None:
    path.write_bytes(b"x" * 4096)
    opened(path).execute("SELECT * FROM t").fetchall()


def refused_by_a_rule(path: Path) -> None:
    opened(path).execute("INSERT INTO t VALUES (NULL)")


def wrong(path: Path) -> None:
    opened(path).execute("SELECT nothing FROM nowhere")


CASES: list[tuple[Callable[[Path], None], str, bool, bool]] = [
    (read_only, "SQLITE_READONLY", True, False),
    (full, "SQLITE_FULL", True, False),
    (busy, "SQLITE_BUSY", True, False),
    (cannot_open, "SQLITE_CANTOPEN", True, False),
    (damaged, "SQLITE_CORRUPT", False, True),
    (no_database, "SQLITE_NOTADB", False, True),
    (refused_by_a_rule, "SQLITE_CONSTRAINT", False, False),
    (wrong, "SQLITE_ERROR", False, False),
]


@pytest.mark.parametrize(("fail", "name", "all_", "damage"), CASES)
def test_the_errors_of_sqlite_are_sorted(
    tmp_path: Path, fail: Callable[[Path], None], name: str, *, all_: bool, damage: bool
) -> None:
    path = tmp_path / "file"
    connection = opened(path)
    connection.execute("CREATE TABLE t (a TEXT NOT NULL)")
    connection.close()
    with pytest.raises(sqlcipher.Error) as raised:
        fail(path)
    assert f"({name}" in cause(raised.value)
    assert (concerns_all(raised.value), is_damage(raised.value)) == (all_, damage)


def test_a_write_that_no_call_could_make_makes_the_writer_unready(tmp_path: Path) -> None:
    store = Store(tmp_path, {"DB_PATH": str(tmp_path / "jobs.queuedb")})
    store.writer.start()
    with store.file.writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
    with pytest.raises(StoreFailed):
        store.writer.submit(Create(store.queue, [store.new(content=b"x" * 100_000)]))
    with pytest.raises(StoreFailed):
        store.writer.check()
    store.writer.stop()
    store.file.close()
