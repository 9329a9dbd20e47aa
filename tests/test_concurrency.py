"""Many clients at once: no job is handed out twice, none is left, and the order holds."""

import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from tests.harness.client import Api, JobDict
from tests.harness.server import Server

CLAIMERS = 8
JOBS = 5000


def together(work: Callable[[int], None], threads: int) -> None:
    """Runs the work in threads; fails with what one of them failed with."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))


def create_all(server: Server, queue: str, jobs: int) -> list[str]:
    """One by one, and ten at once, by turns."""
    api, made = server.api(queue), list[str]()
    while len(made) < jobs:
        made.append(api.made(priority=1 + len(made) % 7)["uid"])
        several = min(10, jobs - len(made))
        made += [job["uid"] for job in create_many(api, range(1, 1 + several))]
    return made


def create_many(api: Api, priorities: Iterable[int]) -> list[JobDict]:
    drafts = [{"content": {}, "valid_for": 600, "priority": priority} for priority in priorities]
    answer = api.send("PUT", "/api/v1/jobs/create", drafts)
    assert answer.status == 201 or not drafts, answer
    return answer.json() if drafts else []


def work_off(server: Server, queue: str, more: threading.Event) -> list[str]:
    """Claims and completes until the queue is empty and no more is to come; the uids.

    Every tenth is completed by itself, the others in the call that claims the one after.
    """
    api, done = server.api(queue), list[str]()
    completed = {"status": "complete"}
    while True:
        last_look = not more.is_set()
        answer = api.send("GET", "/api/v1/jobs/next" + ("" if last_look else "?wait=1"))
        while answer.status == 200:
            done.append(answer.json()["uid"])
            path = f"/api/v1/jobs/{done[-1]}"
            if len(done) % 10 == 0:
                assert api.send("POST", path, completed).status == 200
                break
            answer = api.send("POST", path + "?next=1", completed)
            assert answer.status in (200, 204), answer
        if answer.status == 204 and last_look:
            return done


def test_8_claimers_over_5000_jobs_share_none_and_leave_none(server: Server, queue: str) -> None:
    more = threading.Event()
    more.set()
    with ThreadPoolExecutor(CLAIMERS + 4) as pool:
        claimers = [pool.submit(work_off, server, queue, more) for _ in range(CLAIMERS)]
        creators = [pool.submit(create_all, server, queue, JOBS // 4) for _ in range(4)]
        created = [uid for creator in creators for uid in creator.result()]
        more.clear()
        claimed = [claimer.result() for claimer in claimers]
    everything = [uid for uids in claimed for uid in uids]
    assert len(created) == len(everything) == len(set(everything)) == JOBS
    assert set(everything) == set(created)
    assert all(claimed), "every claimer got some"
    assert len(server.api(queue).listed("complete")) == JOBS


def test_the_order_holds_over_1000_mixed_priorities(server: Server, queue: str) -> None:
    dice = random.Random(11)
    api = server.api(queue)
    made = create_many(api, (dice.randint(1, 100) for _ in range(1000)))
    expected = sorted(made, key=lambda job: -job["priority"])
    assert [api.next().json()["uid"] for _ in made] == [job["uid"] for job in expected]
    assert api.next().status == 204


def test_each_claimer_sees_priorities_fall(server: Server, queue: str) -> None:
    """With nothing created meanwhile, no later claim may get a higher priority."""
    dice = random.Random(12)
    api = server.api(queue)
    create_many(api, (dice.randint(1, 100) for _ in range(500)))
    got: list[list[JobDict]] = [[] for _ in range(CLAIMERS)]

    def claim(number: int) -> None:
        mine = server.api(queue)
        while (answer := mine.next()).status == 200:
            got[number].append(answer.json())

    together(claim, CLAIMERS)
    assert sum(map(len, got)) == 500
    for jobs in got:
        priorities = [job["priority"] for job in jobs]
        assert priorities == sorted(priorities, reverse=True)


def test_racing_updates_of_one_job_leave_one_of_them_whole(server: Server, queue: str) -> None:
    uid = server.api(queue).made()["uid"]

    def update(number: int) -> None:
        api = server.api(queue)
        for _ in range(50):
            answer = api.update(uid, priority=1 + number, content={"by": number})
            assert answer.json()["content"] == {"by": number}

    together(update, CLAIMERS)
    job = server.api(queue).get(uid).json()
    assert job["priority"] == 1 + job["content"]["by"]
