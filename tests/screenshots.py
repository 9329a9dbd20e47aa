"""Takes the pictures of the dashboard that are in docs/, of an hour of made-up work.

python -m tests.screenshots docs
"""

import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from playwright.sync_api import Page

from tests.dashboard.pages import tick
from tests.harness.chromium import Windows, chromium
from tests.harness.client import Api, JobDict
from tests.harness.clock import FileClock
from tests.harness.house import House
from tests.harness.server import Server

_CONFIG = """
version: 1
admins: [ann]
job_keep_minutes: 1440
queues:
  emails: {read: [mailer], write: [shop, billing]}
  faxes: {read: [mailer], write: [billing]}
  invoices: {read: [printer], write: [billing], max_jobs: 50}
  reports: {read: [reporter], write: [scheduler]}
  thumbnails: {read: [imaging], write: [shop]}
  webhooks: {read: [notifier], write: [billing, shop]}
"""
_TICK_SECONDS = 5
_TICKS = 3600 // _TICK_SECONDS
_WIDTH, _HEIGHT = 1200, 760  # pixels
_dice = random.Random(11)


@dataclass
class Work:
    """What a queue's services do: jobs a tick, from one tick on, until its workers stop."""

    api: Api
    writer: str
    worker: str
    content: dict[str, Any]
    jobs: float
    begins: int = 0
    workers_stop: int = _TICKS
    fails: float = 0.0
    fails_late: float = 0.0
    running: list[tuple[int, str]] = field(default_factory=list)

    def at(self, now: int) -> None:
        """Does what is done in a tick."""
        if now >= self.begins:
            for _ in range(_times(self.jobs)):
                priority = _dice.choice([50, 50, 80, 100])
                self.api.as_service(self.writer).create(self.content, priority, 3600)
        if now < self.workers_stop:
            self._work(now)

    def _work(self, now: int) -> None:
        worker = self.api.as_service(self.worker)
        failing = self.fails_late if now > 0.8 * _TICKS else self.fails
        for uid in [uid for until, uid in self.running if until <= now]:
            worker.update(uid, status="failed" if _dice.random() < failing else "complete")
        self.running = [(until, uid) for until, uid in self.running if until > now]
        for _ in range(_times(1.02 * self.jobs)):
            answer = worker.next()
            if answer.status == 200:
                self.running.append((now + _dice.randint(1, 11), answer.json()["uid"]))


def _times(mean: float) -> int:
    return max(0, round(_dice.gauss(mean, 0.6 + mean / 4)))


def _an_hour(server: Server, clock: FileClock) -> Iterator[int]:
    hook = {"url": "https://partner.example/hook", "event": "invoice.paid"}
    mail = {"to": "ada@example.org", "template": "receipt"}
    api = server.api
    all_ = [
        Work(api("emails"), "shop", "mailer", mail, 5.0, fails=0.02, fails_late=0.02),
        Work(
            *(api("invoices"), "billing", "printer", {"invoice": 1042}, 0.6),
            begins=_TICKS - 120,
            workers_stop=0,
        ),
        Work(
            *(api("reports"), "scheduler", "reporter", {"report": "sales"}, 0.4),
            workers_stop=_TICKS - 240,
        ),
        Work(api("thumbnails"), "shop", "imaging", {"image": "a1.png"}, 1.5),
        Work(api("webhooks"), "billing", "notifier", hook, 1.0, fails=0.02, fails_late=0.4),
    ]
    for now in range(_TICKS):
        for work in all_:
            work.at(now)
        clock.advance(_TICK_SECONDS)
        yield now


def _failed_twice(house: House) -> str:
    """The uid of a job that was tried again, and failed again."""
    worker = house.server.api("webhooks", "notifier")
    content = {"url": "https://partner.example/hook", "event": "order.sent"}
    job = house.server.api("webhooks", "billing").create(content, 100).json()
    failed = _fail_next(house, worker)
    form = {"queue": "webhooks", "action": "retried", "job": tick(failed)}
    house.browser("ann").post("/jobs/act", form)
    again = _fail_next(house, worker)
    assert job["uid"] == failed["uid"] == again["uid"]
    return str(job["uid"])


def _fail_next(house: House, worker: Api) -> JobDict:
    house.clock.advance(4)
    claimed = worker.next().json()
    house.clock.advance(9)
    failed: JobDict = worker.update(claimed["uid"], status="failed").json()
    house.clock.advance(20)
    return failed


def _take(page: Page, address: str, picture: Path, height: int = _HEIGHT) -> None:
    page.set_viewport_size({"width": _WIDTH, "height": height})
    page.goto(address)
    page.locator("#live").wait_for()
    page.screenshot(path=picture)


def main(folder: Path) -> None:
    """Takes them."""
    with tempfile.TemporaryDirectory() as place:
        clock = FileClock(Path(place) / "now")
        with Server(Path(place), _CONFIG, clock_file=clock.path) as server, chromium() as browser:
            house = House(server, clock)
            house.add_users()
            house.browser("ann").post("/queue/pause", {"name": "faxes"})
            hour = _an_hour(server, clock)
            with click.progressbar(hour, _TICKS, "An hour of work", file=sys.stderr) as ticks:
                list(ticks)
            uid = _failed_twice(house)
            windows = Windows(browser, house)
            light = windows.open(name="ann", color_scheme="light")
            _take(light, "/", folder / "dashboard-overview.png", 480)
            _take(light, f"/jobs/{uid}", folder / "dashboard-job.png")
            _take(
                light,
                "/jobs?queue=webhooks&state=failed&order=newest&newer=2h",
                folder / "dashboard-jobs.png",
            )
            dark = windows.open(name="ann", color_scheme="dark")
            _take(dark, "/queue?name=webhooks", folder / "dashboard-queue-dark.png", 1240)
            windows.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
