"""kill -9 at random moments under load: what was acknowledged is there, in its state."""

import http.client
import itertools
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from tests.harness.client import Answer, Api
from tests.harness.server import Server

CRASHES = 20
CLIENTS = 6
CONFIG = "version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n"


class Ledger:
    """What the server acknowledged, and what it may have done before it was killed.

    Each uid belongs to one client at a time, so that its last acknowledged form is
    known; the call in the air when the server died may or may not have happened.
    """

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any] | None] = {}
        self.uncertain: set[str] = set()
        self.claims_in_the_air = 0
        self.refusals = Counter[str]()


class Client(threading.Thread):
    """Creates, claims, completes and deletes until the server is gone."""

    def __init__(self, api: Api, ledger: Ledger, seed: int) -> None:
        super().__init__()
        self._api, self._ledger, self._dice = api, ledger, random.Random(seed)
        self._mine: list[str] = []
        self._touching: str | None = None
        self._unknown = False
        self.stopping = False

    def run(self) -> None:
        try:
            while not self.stopping:
                self._step()
        except (OSError, http.client.HTTPException):
            if self._touching is not None:
                self._ledger.uncertain.add(self._touching)

    def _step(self) -> None:
        known, roll = self._ledger.known, self._dice.random()
        self._touching = None
        if roll < 0.5:
            answer = self._api.create(priority=self._dice.randint(1, 100), valid_for=100_000)
            if self._done(answer):
                job = answer.json()
                known.setdefault(job["uid"], job)  # another may have claimed it since
        elif roll < 0.75 or not self._mine:
            self._ledger.claims_in_the_air += 1
            answer = self._api.next()
            done = self._done(answer)
            if done or not self._unknown:
                self._ledger.claims_in_the_air -= 1
            if done and answer.status == 200:
                job = answer.json()
                earlier = known.get(job["uid"])
                assert earlier is None or earlier["state"] == "queued", "handed out twice"
                known[job["uid"]] = job
                self._mine.append(job["uid"])
        else:
            self._finish(self._mine.pop())

    def _finish(self, uid: str) -> None:
        self._touching = uid
        if self._dice.random() < 0.7:
            answer = self._api.update(uid, status="complete")
            if self._done(answer):
                self._ledger.known[uid] = answer.json()
        else:
            answer = self._api.delete(uid)
            if self._done(answer):
                assert answer.status == 204
                self._ledger.known[uid] = None

    def _done(self, answer: Answer) -> bool:
        """Whether the call was done; not done is a 503, and it may have been none the less."""
        if answer.status < 500:
            return True
        assert answer.status == 503, answer
        kind = answer.json()["type"].rpartition(":")[2]
        self._ledger.refusals[kind] += 1
        self._unknown = kind == "outcome-unknown"
        if self._touching is not None and self._unknown:
            self._ledger.uncertain.add(self._touching)
        return False


def check(api: Api, ledger: Ledger) -> None:
    """Everything acknowledged is stored as it was acknowledged, but for what was in the air."""
    stored = {job["uid"]: job for job in api.listed()}
    surprises = 0
    for uid, job in ledger.known.items():
        if uid in ledger.uncertain or stored.get(uid) == job:
            continue
        assert job is not None, "a deleted job came back"
        assert uid in stored, "an acknowledged job is missing"
        assert (job["state"], stored[uid]["state"]) == ("queued", "inprogress")
        surprises += 1
    assert surprises <= ledger.claims_in_the_air, "more claims than were in the air"
    ledger.known = {uid: stored.get(uid) for uid in ledger.known}
    ledger.uncertain.clear()
    ledger.claims_in_the_air = 0


def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path, database: dict[str, Any]) -> None:
    ledger, dice = Ledger(), random.Random(99)
    # The database of the other kind is not killed with the server.
    crashes = CRASHES // 2 if database else CRASHES
    for crash in itertools.count():
        if crash >= crashes and len(ledger.known) > 200:
            break  # on a slow machine it takes more
        assert crash < 10 * crashes, "there was load"
        server = Server(tmp_path, CONFIG, **database).start()
        check(server.api(), ledger)
        clients = [Client(server.api(), ledger, seed=crash * 100 + n) for n in range(CLIENTS)]
        for client in clients:
            client.start()
        clients[0].join(dice.uniform(0.05, 0.5))
        server.kill()
        for client in clients:
            client.join()
    with Server(tmp_path, CONFIG, **database) as server:
        check(server.api(), ledger)
