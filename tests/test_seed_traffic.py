"""Whoever uses nothing but the specification is answered as before, byte for byte."""

import json

import pytest

from tests.harness.client import Transport
from tests.harness.clock import FileClock
from tests.harness.seed_traffic import RECORDING, STEPS, play

_RECORDED = json.loads(RECORDING.read_text(encoding="utf-8"))


def test_recorded_traffic_is_answered_as_it_was(
    transport: Transport, queue: str, clock: FileClock
) -> None:
    answers = list(play(transport, queue, clock))
    differing = [
        (number, before, now)
        for number, (before, now) in enumerate(zip(_RECORDED, answers, strict=True))
        if before != now
    ]
    assert not differing


@pytest.mark.parametrize("status", [200, 201, 204, 400, 403, 404])
def test_the_recording_has_each_status_of_the_specification(status: int) -> None:
    assert len(_RECORDED) == len(STEPS)
    assert any(answer["status"] == status for answer in _RECORDED)
