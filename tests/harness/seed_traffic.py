"""A script of calls that use nothing but the specification, and what they are answered.

`test_seed_traffic.py` holds every later version to the recording in `seed_traffic.json`, which
`python -m tests.harness.seed_traffic` made once, from the version before retries and leases.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.harness.client import Answer, Transport
from tests.harness.clock import FileClock

RECORDING = Path(__file__).parent.parent / "seed_traffic.json"
QUEUE = "queue0"
_CREATE, _NEXT, _ALL = "/api/v1/jobs/create", "/api/v1/jobs/next", "/api/v1/jobs"
# What an answer says apart from its body; the rest is the HTTP server's.
_HEADERS = ("content-type", "cache-control", "x-content-type-options")
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\b1[89]\d{8}\b")


class Step(NamedTuple):
    """A call, so many seconds after the one before. `@2` in a path is the third uid made."""

    method: str
    path: str
    body: Any = None
    after: int = 0
    headers: Mapping[str, str] = MappingProxyType({})
    service: str = "both"


def _create(content: object, priority: int = 50, valid_for: int = 600, **more: Any) -> Step:
    body = {"content": content, "valid_for": valid_for, "priority": priority}
    return Step("PUT", _CREATE, body, **more)


def _update(number: int, body: Any, **more: Any) -> Step:
    return Step("POST", f"/api/v1/jobs/@{number}", body, **more)


def _filtered(state: str) -> Step:
    return Step("GET", _ALL, headers={"X-Status-Filter": state})


_ODD = '{"content": {"n": 12345678901234567890123, "é": "ü", "a": [1.50, null]}, '
_STATES = [_filtered(state) for state in ("queued", "inprogress", "complete", "failed")]

STEPS = [
    Step("GET", "/api/v1/test"),
    Step("GET", _NEXT),
    Step("GET", _ALL),
    _create({"job": "content"}, priority=80),
    _create({"job": "second"}, after=1),
    _create({"job": "urgent"}, priority=100, headers={"X-Content-Type": "application/json"}),
    Step("PUT", _CREATE, (_ODD + '"valid_for": 5, "priority": 1}').encode()),
    Step("GET", _ALL),
    _filtered("queued"),
    _filtered("failed"),
    Step("GET", _NEXT, after=3),
    Step("GET", _NEXT, service="reader"),
    *_STATES,
    _update(2, {"status": "complete"}, after=2),
    _update(0, {}, after=1),
    _update(0, {"status": "failed"}),
    _update(0, {"status": "queued"}, after=1),
    _update(1, {"content": {"job": "changed"}, "priority": 90}),
    _update(1, {"status": "inprogress", "content": {}, "priority": 1}, service="reader"),
    Step("GET", "/api/v1/jobs/@3"),
    Step("GET", _ALL, after=2),
    *_STATES,
    # The window of one in progress ends, then the keep time of those that are finished.
    Step("GET", "/api/v1/jobs/@1", after=600),
    Step("GET", "/api/v1/jobs/@1", after=1),
    *_STATES,
    Step("GET", _ALL, after=3600),
    # What is refused, by its status and type alone.
    Step("GET", _NEXT, service="writer"),
    _create({}, service="reader"),
    _create([]),
    _create({}, priority=0),
    _create({}, priority=101),
    _create({}, valid_for=0),
    Step("PUT", _CREATE, b"{"),
    _create({"job": "last"}),
    _update(4, {"status": "done"}),
    _update(4, {"state": "complete"}),
    _update(4, {"priority": 101}),
    _update(4, {"status": "complete", "timeout_time": "soon"}),
    Step("GET", _ALL, headers={"X-Status-Filter": "done"}),
    Step("GET", _NEXT, headers={"X-Queue": "nowhere"}),
    Step("GET", "/api/v1/jobs/@0"),
    Step("GET", "/api/v1/jobs/@4"),
    Step("DELETE", "/api/v1/jobs/@4"),
]


def play(transport: Transport, queue: str, clock: FileClock) -> Iterator[dict[str, Any]]:
    """Makes the calls; gives each answer, with uids and times counted from the first."""
    start, uids = clock.now(), list[str]()
    for step in STEPS:
        clock.advance(step.after)
        path = re.sub(r"@(\d)", lambda found: uids[int(found[1])], step.path)
        body = step.body
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {"X-Name": step.service, "X-Queue": queue, **step.headers}
        answer = transport.send(step.method, path, headers, body)
        if answer.status == 201:
            uids.append(answer.json()["uid"])
        yield {"call": f"{step.method} {step.path}", **_recorded(answer, start, uids)}


def _recorded(answer: Answer, start: int, uids: list[str]) -> dict[str, Any]:
    headers = {name: answer.headers[name] for name in _HEADERS if name in answer.headers}
    if answer.status >= 400:
        return {"status": answer.status, "headers": headers, "type": answer.json()["type"]}
    text = _UID.sub(lambda found: f"uid {uids.index(found[0])}", answer.body.decode())
    text = _TIME.sub(lambda found: f"T+{int(found[0]) - start}", text)
    return {"status": answer.status, "headers": headers, "body": text}


def _record() -> list[dict[str, Any]]:
    """The answers of this version, called in this process."""
    from jobengine.config.environment import read_environment
    from jobengine.wsgi import Service
    from tests.conftest import CONFIG, env_in
    from tests.harness.client import WsgiTransport

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.yml").write_text(CONFIG, encoding="utf-8")
        clock = FileClock(folder / "now")
        service = Service(read_environment(env_in(folder)), clock)
        answers = list(play(WsgiTransport(service.app), QUEUE, clock))
        service.stop()
    return answers


if __name__ == "__main__":
    text = json.dumps(_record(), indent=1, ensure_ascii=False)
    RECORDING.write_text(f"{text}\n", encoding="utf-8")
