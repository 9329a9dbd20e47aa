"""What the benchmarks rest on: a measurement always has something to divide by."""

import time
from pathlib import Path

import pytest

from benchmarks.load import SCRIPTS, run, time_left
from tests.harness.server import Server

CONFIG = """\
version: 1
queues:
  q: {read: ['*'], write: ['*']}
"""


def test_a_load_lasts_until_the_first_answer(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG) as server:
        load = run([server.port], [SCRIPTS["create"]()], seconds=0)
    assert load.answers == 1
    assert load.rate > 0
    assert load.median_seconds > 0


def test_a_measurement_ends_with_its_time_once_something_answered() -> None:
    began = time.perf_counter()
    assert time_left(began, 1000, answers=1) == pytest.approx(1000, abs=60)
    assert time_left(began - 1001, 1000, answers=1) < 0
    assert time_left(began - 1001, 1000, answers=0) > 0


def test_a_measurement_that_nothing_answers_fails() -> None:
    with pytest.raises(TimeoutError, match="no answer within"):
        time_left(time.perf_counter() - 1000, 1, answers=0)


def test_a_refused_call_is_no_measurement(tmp_path: Path) -> None:
    read_only = CONFIG.replace("write: ['*']", "write: []")
    with Server(tmp_path, read_only) as server, pytest.raises(RuntimeError, match="refused"):
        run([server.port], [SCRIPTS["create"]()], seconds=0)
