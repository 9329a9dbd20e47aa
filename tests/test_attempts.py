"""How often a login may fail, and what is kept of it."""

from collections.abc import Sequence

import pytest

from jobengine.domain.errors import Busy, RateExceeded, Unauthenticated
from jobengine.engine.attempts import COUNTERS_MAX, Attempts, Counter, counters

ANN = counters("ann", "192.0.2.1", known=False)
WINDOW = 300


class Ticks:
    """What Attempts reads the time from."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def attempts(ticks: Ticks) -> Attempts:
    return Attempts(ticks)


def fail(attempts: Attempts, counted: Sequence[Counter]) -> None:
    with pytest.raises(Unauthenticated), attempts.attempt(counted):
        raise Unauthenticated


def refused(attempts: Attempts, counted: Sequence[Counter]) -> int:
    """After how many seconds it may try again."""
    with pytest.raises(RateExceeded) as caught, attempts.attempt(counted):
        raise AssertionError("it was let through")
    return caught.value.retry_after


def test_the_sixth_failure_of_a_name_waits_until_the_first_is_over(
    attempts: Attempts, ticks: Ticks
) -> None:
    for _ in range(5):
        fail(attempts, ANN)
        ticks.now += 10
    assert refused(attempts, ANN) == WINDOW - 50
    ticks.now += WINDOW - 50.5
    assert refused(attempts, ANN) == 1
    ticks.now += 0.5
    fail(attempts, ANN)
    assert refused(attempts, ANN) == 10


def test_the_twenty_first_failure_from_an_address_waits(attempts: Attempts) -> None:
    for number in range(20):
        fail(attempts, counters(f"name{number}", "192.0.2.1", known=False))
    assert refused(attempts, counters("other", "192.0.2.1", known=False)) == WINDOW
    fail(attempts, counters("other", "192.0.2.2", known=False))
    fail(attempts, counters("ann", "192.0.2.1", known=True))


def test_who_is_refused_is_not_counted(attempts: Attempts, ticks: Ticks) -> None:
    for _ in range(5):
        fail(attempts, ANN)
    for _ in range(50):
        refused(attempts, ANN)
    bob = counters("bob", "192.0.2.1", known=False)
    for _ in range(5):
        fail(attempts, bob)
    ticks.now += WINDOW
    fail(attempts, ANN)


def test_an_attempt_counts_while_it_lasts(attempts: Attempts) -> None:
    for _ in range(4):
        fail(attempts, ANN)
    with attempts.attempt(ANN):
        refused(attempts, ANN)
    fail(attempts, ANN)


@pytest.mark.parametrize("error", [None, Busy, ZeroDivisionError])
def test_only_a_failed_login_stays_counted(
    attempts: Attempts, error: type[Exception] | None
) -> None:
    for _ in range(50):
        try:
            with attempts.attempt(ANN):
                if error is not None:
                    raise error
        except (Busy, ZeroDivisionError):
            pass
    assert not any(attempts._failed.values())


def test_what_is_kept_of_failures_is_forgotten_after_the_window(
    attempts: Attempts, ticks: Ticks
) -> None:
    for number in range(50):
        fail(attempts, counters(f"name{number}", f"198.51.100.{number}", known=False))
    ticks.now += WINDOW
    fail(attempts, ANN)
    assert list(attempts._failed) == [*ANN]


def test_a_bounded_number_of_names_and_addresses_is_kept(attempts: Attempts) -> None:
    for number in range(COUNTERS_MAX):
        fail(attempts, counters(f"name{number}", f"address{number}", known=False))
    assert len(attempts._failed) == COUNTERS_MAX
    assert counters(f"name{number}", "", known=False)[0] in attempts._failed
