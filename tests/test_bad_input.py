"""Nothing that a client sends gives a 500, and what is refused changes nothing."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jobengine.domain.job import TIME_MAX
from tests.harness.client import Answer, Api
from tests.harness.clock import FileClock

CREATE = "/api/v1/jobs/create"
GOOD = {"content": {"a": 1}, "valid_for": 600, "priority": 50}
NO_UID = "00000000-0000-7000-8000-000000000000"


def assert_problem(answer: Answer, status: int, kind: str | None = None) -> dict[str, Any]:
    """The answer is problem+json of the status; gives it."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert "Traceback" not in answer.body.decode()
    if kind is not None:
        assert problem["type"] == f"urn:jobengine:problem:{kind}"
    return problem


def pointers(problem: dict[str, Any]) -> list[str]:
    return [error["pointer"] for error in problem["errors"]]


BAD_FIELDS: list[tuple[str, Any]] = [
    ("content", None),
    ("content", []),
    ("content", "text"),
    ("content", 1),
    ("content", True),
    ("valid_for", 0),
    ("valid_for", -1),
    ("valid_for", 1.5),
    ("valid_for", 1.0),
    ("valid_for", "600"),
    ("valid_for", True),
    ("valid_for", None),
    ("valid_for", [600]),
    ("valid_for", 2**63),
    ("valid_for", 10**400),
    ("valid_for", TIME_MAX),
    ("priority", 0),
    ("priority", 101),
    ("priority", -(2**64)),
    ("priority", 2**64),
    ("priority", 50.0),
    ("priority", "50"),
    ("priority", False),
    ("priority", None),
    ("priority", {}),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_a_create_with_a_bad_field_is_refused_by_its_name(api: Api, field: str, value: Any) -> None:
    problem = assert_problem(api.send("PUT", CREATE, GOOD | {field: value}), 400, "invalid-input")
    assert pointers(problem) == [f"/{field}"]
    assert "expected" in problem["errors"][0]["detail"]
    assert api.listed() == []


@pytest.mark.parametrize("field", list(GOOD))
def test_every_field_of_a_create_is_required(api: Api, field: str) -> None:
    body = {key: value for key, value in GOOD.items() if key != field}
    problem = assert_problem(api.send("PUT", CREATE, body), 400)
    assert pointers(problem) == [f"/{field}"]


def test_every_mistake_in_a_body_is_told_at_once(api: Api) -> None:
    body = {"content": [], "priority": 101, "state": "queued", "a/b~c": 1}
    problem = assert_problem(api.send("PUT", CREATE, body), 400)
    assert pointers(problem) == ["/state", "/a~1b~0c", "/content", "/valid_for", "/priority"]


@pytest.mark.parametrize("priority", [1, 100])
def test_the_ends_of_the_priorities_are_accepted(api: Api, priority: int) -> None:
    assert api.create(priority=priority).json()["priority"] == priority


def test_the_last_second_of_the_year_9999_is_accepted(api: Api, clock: FileClock) -> None:
    longest = TIME_MAX - clock.now()
    assert api.create(valid_for=longest).json()["timeout_time"] == TIME_MAX
    problem = assert_problem(api.create(valid_for=longest + 1), 400)
    assert pointers(problem) == ["/valid_for"]


BAD_CHANGES: list[tuple[str, Any]] = [
    ("status", "done"),
    ("status", "Queued"),
    ("status", ""),
    ("status", None),
    ("status", 1),
    ("content", []),
    ("content", None),
    ("timeout_time", -1),
    ("timeout_time", TIME_MAX + 1),
    ("timeout_time", 1.5),
    ("timeout_time", "1582797595"),
    ("timeout_time", True),
    ("timeout_time", None),
    ("timeout_time", 2**70),
    ("priority", 0),
    ("priority", 101),
    ("priority", True),
    ("state", "complete"),
    ("uid", NO_UID),
    ("created", 1),
    ("valid_for", 5),
]


@pytest.mark.parametrize(("field", "value"), BAD_CHANGES)
def test_an_update_with_a_bad_field_changes_nothing(api: Api, field: str, value: Any) -> None:
    job = api.made()
    body = {"status": "failed", "priority": 3} | {field: value}
    answer = api.send("POST", f"/api/v1/jobs/{job['uid']}", body)
    assert pointers(assert_problem(answer, 400, "invalid-input")) == [f"/{field}"]
    assert api.listed() == [job]


def test_an_update_with_state_is_told_that_the_field_is_called_status(api: Api) -> None:
    problem = assert_problem(api.update(api.made()["uid"], state="complete"), 400)
    assert "status" in problem["errors"][0]["detail"]


def test_a_bad_update_of_an_unknown_job_is_told_of_its_body(api: Api) -> None:
    assert_problem(api.update(NO_UID, priority=0), 400)


DEEP = 100_000
MALFORMED = [
    b"",
    b" ",
    b"{",
    b"}",
    b"[]",
    b"null",
    b"1",
    b'"text"',
    b"nonsense",
    b"{'a':1}",
    b'{"content":{},"valid_for":600,"priority":1}x',
    b'{"content":{},"valid_for":600,"priority":1,}',
    b'{"content":{"a":NaN},"valid_for":600,"priority":1}',
    b'{"content":{"a":Infinity},"valid_for":600,"priority":1}',
    b'{"content":{"a":01},"valid_for":600,"priority":1}',
    b'{"content":{"a":"\x01"},"valid_for":600,"priority":1}',
    b'{"content":{"a":"\xff\xfe"},"valid_for":600,"priority":1}',
    b'{"content":{"\xc0\x80":1},"valid_for":600,"priority":1}',
    b'{"content":{"a":"\xed\xa0\x80"},"valid_for":600,"priority":1}',
    b'{"content":{"a":"\\ud800"},"valid_for":600,"priority":1}',
    b'{"content":{"a":"\\x"},"valid_for":600,"priority":1}',
    b"\xef\xbb\xbf{}",
    b"\x00",
    b'{"priority":"x","priority":1,"valid_for":1,"content":{}}',
    b'{"content":' + b"[" * DEEP,
    b'{"content":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b',"valid_for":600,"priority":1}',
    b'{"unknown":' + b"[" * DEEP + b"]" * DEEP + b"}",
    b"[" * DEEP + b"]" * DEEP,
    b'{"priority":' + b"9" * DEEP + b',"content":{},"valid_for":1}',
]


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_body_is_400(api: Api, body: bytes) -> None:
    assert_problem(api.send("PUT", CREATE, body), 400, "invalid-input")
    job = api.made()
    assert_problem(api.send("POST", f"/api/v1/jobs/{job['uid']}", body), 400, "invalid-input")
    assert api.listed() == [job]


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_fields = st.sampled_from([*GOOD, "status", "timeout_time", "state", "", "/"]) | st.text()
_bodies = st.binary() | st.dictionaries(_fields, _values).map(lambda d: json.dumps(d).encode())


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=_bodies)
@example(body=b'{"content":{"a":1e400},"valid_for":1,"priority":1}')
def test_any_body_is_accepted_or_refused_and_what_is_accepted_is_json(
    api: Api, body: bytes
) -> None:
    for method, path in (("PUT", CREATE), ("POST", f"/api/v1/jobs/{NO_UID}")):
        answer = api.send(method, path, body)
        assert answer.status in (201, 400, 404)
        if answer.status == 201:
            assert isinstance(json.loads(answer.body)["content"], dict)


BAD_NAMES = ["", "a,b", "a, b", "é", "a" * 201, "tab\there"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("header", ["X-Name", "X-Queue"])
def test_a_header_that_is_no_name_is_400(api: Api, header: str, name: str) -> None:
    raw = {header: name.encode("utf-8").decode("latin-1")}
    for method, path in (("GET", "/api/v1/jobs/next"), ("GET", "/api/v1/jobs"), ("PUT", CREATE)):
        problem = assert_problem(api.send(method, path, headers=raw), 400, "invalid-input")
        assert [error["header"] for error in problem["errors"]] == [header]


def test_missing_names_are_both_told(api: Api) -> None:
    answer = api.transport.send("GET", "/api/v1/jobs/next", {}, None)
    problem = assert_problem(answer, 400, "invalid-input")
    assert [error["header"] for error in problem["errors"]] == ["X-Name", "X-Queue"]


@pytest.mark.parametrize("state", ["", "Queued", "done", "queued, queued", "queued,failed"])
def test_a_filter_that_is_no_state_is_400(api: Api, state: str) -> None:
    api.made()
    problem = assert_problem(api.all(state), 400, "invalid-input")
    assert problem["errors"][0]["header"] == "X-Status-Filter"


@pytest.mark.parametrize(
    "uid",
    [
        "1",
        "x" * 36,
        "{2024ab76-a16f-4cd4-a494-5019174aa265}",
        "2024ab76a16f4cd4a4945019174aa265",
        "urn:uuid:2024ab76-a16f-4cd4-a494-5019174aa265",
        "2024ab76-a16f-4cd4-a494-5019174aa265%00",
        "2024ab76a16f4cd4a4945019174aa265----",
        "%27%20OR%201=1",
        NO_UID,
        "a" * 5000,
    ],
)
def test_a_uid_that_no_job_has_is_404(api: Api, uid: str) -> None:
    for answer in (api.get(uid), api.update(uid), api.delete(uid)):
        assert_problem(answer, 404, "unknown-job")


def test_a_uid_is_found_in_upper_case_too(api: Api) -> None:
    job = api.made()
    assert api.get(job["uid"].upper()).json() == job


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/v1/test", {"GET", "HEAD"}),
        ("/livez", {"GET", "HEAD"}),
        ("/readyz", {"GET", "HEAD"}),
        ("/api/v1/jobs", {"GET", "HEAD", "POST"}),
        ("/api/v1/jobs/create", {"PUT"}),
        ("/api/v1/jobs/next", {"GET"}),
        (f"/api/v1/jobs/{NO_UID}", {"GET", "HEAD", "POST", "DELETE"}),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"])
def test_a_known_method_on_the_wrong_path_is_405_with_allow(
    api: Api, path: str, allowed: set[str], method: str
) -> None:
    if method in allowed:
        return
    answer = api.send(method, path)
    assert answer.status == 405
    assert {name.strip() for name in answer.headers["allow"].split(",")} == allowed | {"OPTIONS"}
    if method != "HEAD":
        assert_problem(answer, 405)


@pytest.mark.parametrize(
    "path", ["/nothing", "/api", "/api/v1", "/api/v2/test", "/api/v1/jobs/a/b", "/%00", "/%ff"]
)
def test_an_unknown_path_is_404(api: Api, path: str) -> None:
    for method in ("GET", "PUT", "POST", "DELETE"):
        answer = api.send(method, path)
        assert answer.status == 404
        assert_problem(answer, 404)


@pytest.mark.parametrize(
    "query",
    [
        "?limit=0",
        "?limit=-1",
        "?limit=1001",
        "?limit=x",
        "?limit=",
        "?limit=1.0",
        "?limit=1&limit=2",
        "?limit=%D9%A1",
        "?limit=" + "9" * 5000,
        "?cursor=",
        "?cursor=x",
        "?cursor=AAAA",
        "?cursor=" + "_" * 23,
        "?cursor=%FF",
        "?cursor=x&cursor=y",
        "?offset=3",
    ],
)
def test_a_bad_parameter_of_a_list_is_400(api: Api, query: str) -> None:
    api.made()
    problem = assert_problem(api.all(query=query), 400, "invalid-input")
    assert problem["errors"][0]["parameter"] in ("limit", "cursor", "offset")


def test_options_tells_the_methods(api: Api) -> None:
    answer = api.send("OPTIONS", CREATE)
    assert answer.status == 200
    assert "PUT" in answer.headers["allow"]


UNKNOWN = [
    ("PUT", CREATE),
    ("GET", "/api/v1/jobs/next"),
    ("GET", "/api/v1/jobs"),
    ("HEAD", "/api/v1/jobs"),
    ("POST", "/api/v1/jobs"),
    ("GET", f"/api/v1/jobs/{NO_UID}"),
    ("POST", f"/api/v1/jobs/{NO_UID}"),
    ("DELETE", f"/api/v1/jobs/{NO_UID}"),
    ("GET", "/api/v1/queues"),
    ("PUT", "/api/v1/queues/nowhere"),
    ("POST", "/api/v1/queues/nowhere/purge"),
    ("GET", "/api/v1/audit"),
    ("GET", "/metrics"),
    ("GET", "/api/v1/openapi.json"),
]


@pytest.mark.parametrize(("method", "path"), UNKNOWN)
def test_an_unknown_parameter_is_400_on_every_call(api: Api, method: str, path: str) -> None:
    job = api.made()
    answer = api.send(method, f"{path}?surprise=1", GOOD)
    if method == "HEAD":
        assert answer.status == 400
        return
    problem = assert_problem(answer, 400, "invalid-input")
    assert [error["parameter"] for error in problem["errors"]] == ["surprise"]
    assert [listed["state"] for listed in api.listed()] == [job["state"]]


def test_an_unknown_parameter_of_a_job_leaves_it_as_it_is(api: Api) -> None:
    job = api.made()
    path = f"/api/v1/jobs/{job['uid']}?next=1&force=1"
    for method in ("GET", "POST", "DELETE"):
        problem = assert_problem(api.send(method, path, {"status": "complete"}), 400)
        assert "force" in [error["parameter"] for error in problem["errors"]]
    assert api.get(job["uid"]).json() == job


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/api/v1/test", "/docs"])
def test_what_is_open_to_all_takes_any_parameter(api: Api, path: str) -> None:
    assert api.send("GET", f"{path}?ts=1&ts=2&a").status == 200


def test_a_wrong_method_is_405_whatever_its_parameters(api: Api) -> None:
    assert api.send("GET", f"{CREATE}?surprise=1").status == 405


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip", "GZIP"])
def test_a_compressed_body_is_415_on_every_call_that_takes_one(api: Api, coding: str) -> None:
    job = api.made()
    headers = {"Content-Encoding": coding}
    update = {"uid": job["uid"], "status": "complete"}
    admin = api.as_service("admin")
    for answer in (
        api.send("PUT", CREATE, GOOD, headers),
        api.send("POST", "/api/v1/jobs", [update], headers),
        api.send("POST", f"/api/v1/jobs/{job['uid']}", {"status": "complete"}, headers),
        admin.send("PUT", "/api/v1/queues/compressed", {}, headers),
    ):
        assert_problem(answer, 415)
        assert answer.headers["accept-encoding"] == "identity"
    assert api.listed() == [job]
    assert admin.send("GET", "/api/v1/queues/compressed").status == 404


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_a_body_that_is_not_compressed_may_say_so(api: Api, coding: str) -> None:
    assert api.send("PUT", CREATE, GOOD, {"Content-Encoding": coding}).status == 201


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8-sig", "byte order mark"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
    ],
)
@pytest.mark.parametrize("body", [GOOD, [GOOD]], ids=["one", "many"])
def test_another_encoding_is_called_by_its_name(
    api: Api, encoding: str, found: str, body: Any
) -> None:
    sent = json.dumps(body).encode(encoding)
    detail = assert_problem(api.send("PUT", CREATE, sent), 400, "invalid-input")["detail"]
    assert found in detail
    assert "UTF-8" in detail
    assert api.listed() == []


@pytest.mark.parametrize(
    "path",
    ["/api/v1/jobs", f"/api/v1/jobs/{NO_UID}", "/api/v1/queues", "/api/v1/openapi.json", "/docs"],
)
def test_head_is_get_without_the_body(api: Api, path: str) -> None:
    api.made()
    get, head = api.send("GET", path), api.send("HEAD", path)
    assert (head.status, head.body) == (get.status, b"")
    varying = {"date", "ratelimit"}
    assert {k: v for k, v in head.headers.items() if k not in varying} == {
        k: v for k, v in get.headers.items() if k not in varying
    }


def test_head_of_a_long_list_sends_nothing_and_closes_it(api: Api) -> None:
    for _ in range(2):
        api.send("PUT", CREATE, [GOOD] * 1000)
    for _ in range(12):  # more than there are lists at once
        head = api.send("HEAD", "/api/v1/jobs")
        assert (head.status, head.body) == (200, b"")
    assert len(api.listed()) == 2000


def test_head_of_next_claims_nothing(api: Api) -> None:
    job = api.made()
    assert api.send("HEAD", "/api/v1/jobs/next").status == 405
    assert api.listed("queued") == [job]


@pytest.mark.parametrize("path", ["/api/v1/test", "/livez", "/readyz"])
def test_the_health_endpoints_answer_without_names(api: Api, path: str) -> None:
    answer = api.transport.send("GET", path, {}, None)
    assert (answer.status, answer.json()) == (200, {"status": "ok"})
    head = api.transport.send("HEAD", path, {}, None)
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""]
)
def test_the_body_is_json_whatever_its_type(api: Api, content_type: str) -> None:
    for header in ("Content-Type", "X-Content-Type"):
        answer = api.send("PUT", CREATE, GOOD, {header: content_type})
        assert answer.status == 201


def test_every_answer_forbids_caching_and_sniffing(api: Api) -> None:
    for answer in (api.next(), api.create(), api.all(), api.send("GET", "/nowhere")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
