"""Who may do what with a queue, over HTTP."""

from collections.abc import Callable

import pytest

from jobengine.domain.queue import ANYONE, Queue, Right
from tests.harness.client import Answer, Api

READER, WRITER, BOTH, NEITHER = "reader", "writer", "both", "stranger"


def call(api: Api, name: str, uid: str) -> int:
    calls: dict[str, Callable[[], Answer]] = {
        "create": api.create,
        "next": api.next,
        "list": api.all,
        "get": lambda: api.get(uid),
        "update": lambda: api.update(uid, priority=3),
        "delete": lambda: api.delete(uid),
    }
    return calls[name]().status


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("create", {WRITER: 201, BOTH: 201}),
        ("next", {READER: 200, BOTH: 200}),
        ("list", {READER: 200, BOTH: 200}),
        ("get", {READER: 200, WRITER: 200, BOTH: 200}),
        ("update", {READER: 200, WRITER: 200, BOTH: 200}),
        ("delete", {WRITER: 204, BOTH: 204}),
    ],
)
@pytest.mark.parametrize("caller", [READER, WRITER, BOTH, NEITHER])
def test_each_call_needs_its_right(
    api: Api, name: str, allowed: dict[str, int], caller: str
) -> None:
    job = api.made()
    assert call(api.as_service(caller), name, job["uid"]) == allowed.get(caller, 403)


@pytest.mark.parametrize("name", ["create", "next", "list", "get", "update", "delete"])
def test_a_forbidden_call_changes_nothing(api: Api, name: str) -> None:
    job = api.made()
    assert call(api.as_service(NEITHER), name, job["uid"]) == 403
    assert api.listed() == [job]


@pytest.mark.parametrize("name", ["create", "next", "list", "get", "update", "delete"])
def test_an_unknown_queue_is_404_whoever_calls(api: Api, name: str) -> None:
    job = api.made()
    elsewhere = Api(api.transport, "no such queue", NEITHER)
    assert call(elsewhere, name, job["uid"]) == 404


def test_a_job_of_another_queue_is_404(api: Api) -> None:
    job = api.made()
    elsewhere = Api(api.transport, "queue0")
    assert elsewhere.get(job["uid"]).status == 404
    assert elsewhere.update(job["uid"], status="failed").status == 404
    assert elsewhere.delete(job["uid"]).status == 404
    assert api.get(job["uid"]).json() == job


def test_names_are_compared_whole(api: Api) -> None:
    for service in ("reade", "readers", "READER", "reader.both"):
        assert api.as_service(service).next().status == 403


@pytest.mark.parametrize("right", Right)
def test_the_wildcard_stands_for_any_service(right: Right) -> None:
    anyone, nobody = frozenset({ANYONE}), frozenset[str]()
    assert Queue(1, "q", anyone, anyone, 1, 1).allows("whoever", right)
    assert not Queue(1, "q", nobody, nobody, 1, 1).allows("whoever", right)
    reads = Queue(1, "q", anyone, nobody, 1, 1)
    assert reads.allows("whoever", right) == (right is not Right.WRITE)
