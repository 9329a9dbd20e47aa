"""A process that is forked after the start, as gunicorn's --preload and uWSGI do."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import env_in
from tests.harness import CHECKOUT
from tests.harness.server import Server
from tests.test_start_and_stop import QUEUES

_FORK = """
import json, os, sys
from falcon.testing import TestClient
from jobengine.wsgi import create_app

def call(who, method, path, **more):
    answer = TestClient(app).simulate_request(method, path, **more)
    kind = (answer.json or {}).get("type", "")
    print(who, method, path, answer.status_code, kind, flush=True)
    return answer

def create(who):
    body = json.dumps({"content": {}, "valid_for": 60, "priority": 1})
    headers = {"X-Name": "a", "X-Queue": "q"}
    return call(who, "PUT", "/api/v1/jobs/create", headers=headers, body=body)

app = create_app()
create("parent")
child = os.fork()
if not child:
    print(create("child").json["detail"])
    for path in ("/readyz", "/livez", "/", "/api/v1/jobs"):
        call("child", "GET", path)
    sys.exit(0)  # as a worker ends: with what was registered to run then
os.waitpid(child, 0)
create("parent")
call("parent", "GET", "/readyz")
os.execv(sys.executable, [sys.executable, "-c", "print('killed')"])
"""


def test_a_forked_process_refuses_all_and_harms_nothing(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    (tmp_path / "config.yml").write_text(QUEUES)
    done = subprocess.run(
        [sys.executable, "-c", _FORK],
        env=env_in(tmp_path, **database),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    refused = "503 urn:jobengine:problem:not-running"
    created = "parent PUT /api/v1/jobs/create 201 "
    assert done.stdout.splitlines() == [
        created,
        f"child PUT /api/v1/jobs/create {refused}",
        "this process was forked after the start, and can serve nothing: "
        "run gunicorn without --preload, uWSGI with lazy-apps",
        *(f"child GET {path} {refused}" for path in ("/readyz", "/livez", "/", "/api/v1/jobs")),
        created,
        "parent GET /readyz 200 ",
        "killed",
    ]
    assert done.stderr.count("run gunicorn without --preload") == 1, "it is logged, once"
    with Server(tmp_path, QUEUES, **database) as server:
        assert len(server.api().listed()) == 2


def test_a_program_that_has_its_own_logging_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(QUEUES)
    script = """
import structlog
structlog.configure(processors=[lambda *_: "mine"])
from jobengine.wsgi import create_app
create_app()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=env_in(tmp_path),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.splitlines()) == {"mine"}
    assert done.stderr == ""
