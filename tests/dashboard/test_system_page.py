"""The page of the system: what runs on what, by which config and with which keys."""

import re
from pathlib import Path
from typing import Any

import pytest

from jobengine import __version__
from tests.conftest import KINDS, Databases
from tests.dashboard.pages import text_of
from tests.harness import command
from tests.harness.browser import Browser, add_user
from tests.harness.clock import FileClock
from tests.harness.house import House
from tests.harness.server import SECRET, Server
from tests.test_reload import hang_up
from tests.test_servers import eventually

CONFIG = """\
version: 1
authentication: keys
threads: {threads}
queues:
  q: {{read: [worker], write: [worker]}}
"""


def parts(browser: Browser) -> dict[str, str]:
    """The text of each part of the page, by its heading."""
    page = browser.get("/system")
    assert page.status == 200
    assert SECRET not in page.text
    found = re.findall(r"<section.*?<h2>(.*?)</h2>(.*?)</section>", page.text, re.DOTALL)
    return {heading: text_of(text) for heading, text in found}


def test_it_tells_what_runs_on_what(house: House, oz: Browser) -> None:
    before = parts(oz)
    assert list(before) == ["Server", "Database"], "the config, keys and users are for admins"
    assert f"Version {__version__} Running for" in before["Server"]
    assert "Threads 32 Calls that wait for a job 0 of 500 at most" in before["Server"]
    assert before["Server"].endswith("Background duties run here")
    file = "DATABASE_URL" not in house.server.env
    kind = "SQLCipher, one encrypted file" if file else "PostgreSQL"
    assert f"Kind {kind} Place " in before["Database"]
    sizes = re.findall(r"Size of the ([\w -]+?) ([\d.]+) (?:[KM]i)?B", before["Database"])
    assert [part for part, _ in sizes] == (["file", "write-ahead log"] if file else ["database"])


@pytest.mark.parametrize("kind", KINDS)
def test_admins_see_the_config_in_force_and_the_keys(
    tmp_path: Path, databases: Databases, kind: str
) -> None:
    env: Any = databases.env(kind)
    clock = FileClock(tmp_path / "now")
    with Server(tmp_path, CONFIG.format(threads=5), clock_file=clock.path, **env) as server:
        add_user(server, "ann")
        ann = Browser(server.port)
        assert ann.log_in("ann").status == 303
        assert "as it was at the start" in parts(ann)["Config in force"]
        assert "threads 5 " in parts(ann)["Config in force"]
        assert "There are none" in parts(ann)["Keys"]

        key = command.run_beside(server, "keys", "create", "worker").stdout.strip()
        eventually(lambda: "There are none" not in parts(ann)["Keys"])  # servers tell each other
        assert re.search(r" worker .* never good$", parts(ann)["Keys"])
        bearer = {"X-Name": "worker", "X-Queue": "q", "Authorization": f"Bearer {key}"}
        assert server.http().send("GET", "/api/v1/jobs/next", bearer, None).status == 204
        assert "never" not in parts(ann)["Keys"]
        assert key.rpartition("_")[2] not in ann.get("/system").text

        clock.advance(3 * 3600)
        assert re.search(r"Running for 3 h( \d+ \w+)?, since 20\d\d-", parts(ann)["Server"])

        hang_up(server, CONFIG.format(threads="many"))
        server.wait_for("the config is refused; nothing is changed")
        refused = parts(ann)["Config in force"]
        assert "and refused: " in refused
        assert "threads" in refused.partition("and refused: ")[2].partition(" version ")[0]
        assert "threads 5 " in refused, "what is in force is as it was"
        assert "ann admin" in parts(ann)["Users"]
