"""Lists: order, filters, pages, and what happens while they are read."""

import json
import random
import socket
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from jobengine.domain.job import State
from jobengine.domain.queue import Right
from jobengine.engine.listing import Listing
from jobengine.engine.permits import Caller, Permits
from jobengine.store.reads import Reads
from jobengine.wsgi import Service
from tests.harness.client import Api, JobDict, WsgiTransport
from tests.harness.server import Server

STATES = ["queued", "inprogress", "complete", "failed"]


def queue_order(jobs: list[JobDict]) -> list[JobDict]:
    return sorted(jobs, key=lambda job: -job["priority"])  # stable: oldest first


def test_an_empty_queue_lists_as_204(api: Api) -> None:
    for state in (None, *STATES):
        assert api.all(state).status == 204


def test_a_filter_that_leaves_nothing_is_204(api: Api) -> None:
    api.made()
    assert api.all("failed").status == 204


def test_the_list_is_in_queue_order_whatever_the_states(api: Api) -> None:
    dice = random.Random(7)
    made = [api.made(dice.choice(STATES), priority=dice.randint(1, 4)) for _ in range(60)]
    assert api.listed() == queue_order(made)
    for state in STATES:
        assert api.listed(state) == queue_order([job for job in made if job["state"] == state])


def pages(api: Api, limit: int, state: str | None = None) -> list[JobDict]:
    """The jobs of all pages, one after the other by their Link headers."""
    jobs: list[JobDict] = []
    query = f"?limit={limit}"
    while True:
        page = api.listed(state, query)
        assert len(page) <= limit
        jobs += page
        link = api.all(state, query).headers.get("link")
        if link is None:
            return jobs
        assert link.endswith("; rel=next")
        query = "?" + urlsplit(link[link.index("<") + 1 : link.index(">")]).query


@pytest.mark.parametrize("limit", [1, 7, 20, 21, 1000])
def test_the_pages_make_up_the_list(api: Api, limit: int) -> None:
    made = [
        api.made(state, priority=priority) for priority in (5, 1, 5) for state in STATES[:3]
    ] + [api.made(priority=3) for _ in range(11)]
    assert len(made) == 20
    assert pages(api, limit) == queue_order(made)
    queued = [job for job in made if job["state"] == "queued"]
    assert pages(api, limit, "queued") == queue_order(queued)


def test_jobs_created_after_the_first_page_are_on_none_of_the_others(api: Api) -> None:
    old = [api.made(priority=50) for _ in range(3)]
    link = api.all(query="?limit=2").headers["link"]
    api.made(priority=1)
    query = "?" + urlsplit(link[link.index("<") + 1 : link.index(">")]).query
    assert api.listed(query=query) == old[2:]


def test_a_list_of_many_chunks_is_whole_and_in_order(api: Api) -> None:
    content = {"filler": "x" * 20_000}
    made = [api.made(content=content, priority=1 + index % 3) for index in range(60)]
    assert api.listed() == queue_order(made)


def listing_of(service: Service, queue: str, state: State | None = None) -> Listing:
    return service.jobs.list(Caller("both", queue), state, None, None)


def test_a_list_ends_though_jobs_are_created_and_deleted_as_fast_as_it_is_read(
    service: Service, queue: str
) -> None:
    api = Api(WsgiTransport(service.app), queue)
    filler = {"filler": "x" * 300_000}  # one job a chunk
    made = [api.made(content=filler)["uid"] for _ in range(4)]
    listing = listing_of(service, queue)
    seen, jobs = [], listing.first
    while jobs:
        seen += [job.uid for job in jobs]
        if len(seen) == 1:
            api.delete(made[2])
        api.made(content=filler)
        jobs = listing.chunk()
    listing.close()
    assert seen == [made[0], made[1], made[3]]


def test_a_bound_number_of_long_lists_is_read_at_once(service: Service, queue: str) -> None:
    api = Api(WsgiTransport(service.app), queue)
    for _ in range(2):
        api.made(content={"filler": "x" * 300_000})  # a chunk each
    open_lists = [listing_of(service, queue) for _ in range(8)]
    refused = api.all()
    assert refused.status == 503
    assert refused.json()["type"] == "urn:jobengine:problem:busy"
    assert int(refused.headers["retry-after"]) > 0
    assert api.all(query="?limit=1").status == 200, "a short list takes no place"
    assert api.next().status == 200, "other calls go on"
    open_lists[0].close()
    open_lists[0].close()  # a second close does not free another place
    assert api.all().status == 200
    for listing in open_lists[1:]:
        listing.close()


def test_a_page_whose_jobs_have_gone_gives_way_to_the_next(service: Service, queue: str) -> None:
    api = Api(WsgiTransport(service.app), queue)
    made = [api.made() for _ in range(5)]
    reads = service.jobs._reads

    class Racing:
        """Reads between which a worker takes the jobs of the first page."""

        def __init__(self) -> None:
            self.gone = False

        def __getattr__(self, name: str) -> Any:
            return getattr(reads, name)

        def chunk(self, *arguments: Any) -> Any:
            if not self.gone:
                self.gone = True
                for job in made[:2]:
                    api.delete(job["uid"])
            return reads.chunk(*arguments)

    permits = Permits(service.access, service.queues)
    here = permits.give(Caller("both", queue), Right.READ)
    listing = Listing(cast("Reads", Racing()), service.clock, here, None, 2, None)
    assert [job.uid for job in listing.first] == [job["uid"] for job in made[2:4]]
    assert listing.next_page is not None


def test_clients_that_hang_up_leave_their_place_to_others(server: Server, queue: str) -> None:
    api = server.api(queue)
    for _ in range(20):
        api.create({"filler": "x" * 900_000})
    request = (
        f"GET /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-Name: both\r\nX-Queue: {queue}\r\n\r\n"
    ).encode()
    for _ in range(20):  # more than may be read at once
        with socket.create_connection(("127.0.0.1", server.port)) as hasty:
            hasty.sendall(request)
            while hasty.recv(1000).startswith(b"HTTP/1.1 503"):
                hasty.close()
                break
    for _ in range(200):
        answer = api.all()
        if answer.status == 200:
            break
    assert len(json.loads(answer.body)) == 20
