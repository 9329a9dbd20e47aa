"""The system's clock, and when it is not to be trusted."""

import time

import pytest

from jobengine.domain.clock import JUMP_SECONDS, SETTLE_SECONDS, SystemClock


class Source:
    """Two readings that a test sets."""

    def __init__(self) -> None:
        self.wall_time = 1_000_000.5
        self.elapsed_time = 100.0

    def wall(self) -> float:
        return self.wall_time

    def elapsed(self) -> float:
        return self.elapsed_time

    def run(self, seconds: float) -> None:
        self.wall_time += seconds
        self.elapsed_time += seconds


def test_it_tells_whole_seconds_of_the_unix_epoch() -> None:
    assert SystemClock(Source()).now() == 1_000_000
    assert abs(SystemClock().now() - time.time()) < 5


def test_it_is_steady_while_both_clocks_run_alike() -> None:
    source = Source()
    clock = SystemClock(source)
    for _ in range(100):
        source.run(3600)
        assert clock.steady()


def test_a_forward_jump_is_distrusted_until_it_has_lasted() -> None:
    source = Source()
    clock = SystemClock(source)
    source.wall_time += JUMP_SECONDS + 1
    assert clock.now() == 1_000_000 + JUMP_SECONDS + 1, "what has expired is not handed out"
    assert not clock.steady()
    source.run(SETTLE_SECONDS - 1)
    assert not clock.steady()
    source.run(1)
    assert clock.steady()
    source.run(1)
    assert clock.steady()


def test_a_jump_that_is_set_right_is_forgotten() -> None:
    source = Source()
    clock = SystemClock(source)
    source.wall_time += 86_400
    assert not clock.steady()
    source.run(60)
    source.wall_time -= 86_400
    assert clock.steady()
    source.wall_time += 86_400
    assert not clock.steady()
    source.run(SETTLE_SECONDS - 1)
    assert not clock.steady(), "the time of the first jump does not count"


def test_a_step_back_and_a_slow_drift_are_trusted() -> None:
    source = Source()
    clock = SystemClock(source)
    source.wall_time -= 86_400
    assert clock.steady()
    for _ in range(100):
        source.run(60)
        source.wall_time += 1
        assert clock.steady()


@pytest.mark.parametrize("ahead", [JUMP_SECONDS + 1, 86_400])
def test_a_start_distrusts_a_clock_that_is_ahead_of_what_was_seen(ahead: int) -> None:
    source = Source()
    clock = SystemClock(source)
    clock.start_from(1_000_000 - ahead)
    assert clock.now() == 1_000_000
    assert not clock.steady()
    source.run(SETTLE_SECONDS - 1)
    assert not clock.steady()
    source.run(1)
    assert clock.steady()


def test_a_start_trusts_a_clock_that_is_set_right() -> None:
    source = Source()
    clock = SystemClock(source)
    clock.start_from(1_000_000 - 86_400)
    assert not clock.steady()
    source.wall_time -= 86_400
    assert clock.steady()


@pytest.mark.parametrize("behind", [0, JUMP_SECONDS, -86_400])
def test_a_start_soon_after_what_was_seen_is_trusted(behind: int) -> None:
    source = Source()
    source.wall_time = 1_000_000.0
    clock = SystemClock(source)
    clock.start_from(1_000_000 - behind)
    assert clock.steady()
    source.wall_time += JUMP_SECONDS + 1
    assert not clock.steady(), "a jump after it is noticed all the same"
