"""How often a login may fail, and what is kept of it."""

import pytest

from jobengine.domain.errors import RateExceeded
from jobengine.engine.attempts import Attempts, counters


def test_what_failed_is_counted_for_a_window_and_then_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts, ann = Attempts(), counters("ann", "192.0.2.1", known=False)
    for _ in range(5):
        attempts.check(ann)
        attempts.failed(ann)
    for number in range(50):
        attempts.failed(counters(f"name{number}", f"198.51.100.{number}", known=False))
    with pytest.raises(RateExceeded):
        attempts.check(ann)

    def turn() -> None:
        at = attempts._turn
        monkeypatch.setattr(attempts, "_elapsed", lambda: at)
        attempts.failed(counters("bob", "203.0.113.1", known=False))

    turn()
    with pytest.raises(RateExceeded):  # what fills a window may lie on both sides of a turn
        attempts.check(ann)
    turn()
    attempts.check(ann)
    kept = attempts._limiter.storage.events  # type: ignore[attr-defined]  # a MemoryStorage
    assert len(kept) == 2, "the name and the address of the last one"
