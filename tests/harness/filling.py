"""A server under load, and what it acknowledged."""

import http.client
import threading
from pathlib import Path
from typing import Any, Self

from tests.harness.client import Api
from tests.harness.server import Server

CONFIG = "version: 1\nqueues:\n  q: {read: ['*'], write: ['*']}\n"
_CALL = 250


def fill(api: Api, jobs: int, size: int = 1500, tag: str = "filled") -> None:
    """Creates so many jobs, each with a content of some `size` bytes of its own."""
    for at in range(0, jobs, _CALL):
        drafts = [draft(f"{tag} {number}", size) for number in range(at, min(at + _CALL, jobs))]
        assert api.send("PUT", "/api/v1/jobs/create", drafts).status == 201


def draft(name: str, size: int) -> dict[str, Any]:
    """A job to create, which can be told from its name whether it is whole."""
    content = {"name": name, "filler": (name + ";") * (size // (len(name) + 1))}
    return {"content": content, "valid_for": 100_000, "priority": 1 + len(name) % 7}


def stored(folder: Path, **env: Any) -> dict[str, Any]:
    """All jobs in a database, by their uids, as a server gives them."""
    with Server(folder, CONFIG, **env) as server:
        return {job["uid"]: job for job in server.api().listed()}


def filled(folder: Path, jobs: int, **env: Any) -> dict[str, Any]:
    """Makes a database with so many jobs; they, by their uids."""
    with Server(folder, CONFIG, **env) as server:
        fill(server.api(), jobs)
        return {job["uid"]: job for job in server.api().listed()}


class Creator(threading.Thread):
    """Creates jobs until it is stopped; `acknowledged` are they, in order."""

    def __init__(self, api: Api, tag: str) -> None:
        super().__init__()
        self._api, self._tag = api, tag
        self._stopping = threading.Event()
        self.begun = threading.Event()
        self.acknowledged: list[dict[str, Any]] = []

    def run(self) -> None:
        while not self._stopping.is_set():
            body = draft(f"{self._tag} {len(self.acknowledged)}", 800)
            try:
                answer = self._api.send("PUT", "/api/v1/jobs/create", body)
            except (OSError, http.client.HTTPException):
                return
            assert answer.status == 201, answer
            self.acknowledged.append(answer.json())
            if len(self.acknowledged) > 20:
                self.begun.set()

    def __enter__(self) -> Self:
        self.start()
        assert self.begun.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join()
