"""Bad input: told, and nothing is changed."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dashboard.pages import (
    NO_UID,
    on_one,
    text_of,
)
from tests.harness.browser import Browser
from tests.harness.house import House


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/jobs/act", {}, 400),
        ("/jobs/act", {"queue": "nope", "action": "deleted", "job": f"{NO_UID}:queued"}, 404),
        ("/jobs/act", {"queue": "queue0"}, 400),
        ("/jobs/act", {"queue": "queue0", "action": "eaten", "job": f"{NO_UID}:queued"}, 400),
        ("/jobs/act", {"queue": "queue0", "action": "deleted"}, 400),
        ("/jobs/act", {"queue": "queue0", "action": "deleted", "job": "x"}, 400),
        ("/jobs/act", {"queue": "queue0", "action": "deleted", "job": NO_UID}, 400),
        ("/jobs/act", {"queue": "queue0", "action": "deleted", "job": f"{NO_UID}:done"}, 400),
        ("/jobs/act", {"queue": "queue0", "action": "deleted", "all": "1", "state": "x"}, 400),
        ("/jobs/act", {"queue": "queue0", "action": "prioritised", "job": f"{NO_UID}:queued"}, 400),
        ("/jobs/act", {"queue": "queue0", "action": "prioritised", "to": "0", "all": "1"}, 400),
        ("/jobs/act", {"queue": "queue0", "action": "deleted", "job": ["x"] * 3000}, 400),
        ("/jobs/act", {"queue": "queue0", "action": "deleted", "x": "x" * 300_000}, 413),
        ("/queue/pause", {"name": "nope"}, 404),
        ("/queue/pause", {"name": "x" * 20_000}, 413),
        ("/queue/purge", {"name": "queue0", "state": "x"}, 400),
        ("/queue/purge", {"name": "nope", "confirmed": "1"}, 404),
        (f"/jobs/{NO_UID}/reveal", {}, 404),
        ("/jobs/nope/reveal", {}, 404),
        ("/jobs/nope", {}, 400),
        ("/system", {}, 405),
        ("/", {}, 405),
        ("/static/app.js", {}, 405),
    ],
)
@on_one
def test_a_bad_form_is_an_error_of_who_sent_it(
    ann: Browser, path: str, fields: dict[str, Any], status: int
) -> None:
    page = ann.post(path, fields)
    assert page.status == status
    assert page.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/jobs/act", "/queue/pause", "/queue/purge", f"/jobs/{NO_UID}"])
@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{}", 400),
        ("text/plain", b"queue=queue0", 400),
        ("", b"queue=queue0", 400),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=x", b"nothing of the kind", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno name\r\n--x--\r\n", 400),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="content"\r\n\r\n\xff\r\n--x--\r\n',
            400,
        ),
        ("multipart/form-data; boundary=x", b"-" * 1_700_000, 413),
        ("application/x-www-form-urlencoded", b"queue=%ff&name=%ff", 400),
        ("application/x-www-form-urlencoded", b"queue=\xff", 400),
    ],
)
@on_one
def test_a_body_that_is_no_such_form_is_refused(
    ann: Browser, path: str, kind: str, body: bytes, status: int
) -> None:
    page = ann.send("POST", path, {"Content-Type": kind}, body)
    # Forms in parts are for a job alone, which is looked for once its form was read.
    known = kind.startswith("multipart") == path.startswith("/jobs/0")
    assert page.status in ({status, 404} if known else {400})


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/login", "name"),
        ("/queue/pause", "name"),
        ("/queue/purge", "name"),
        ("/jobs/act", "queue"),
        ("/jobs/act", "job"),
    ],
)
def test_a_nul_in_a_form_is_refused_by_its_field(ann: Browser, path: str, field: str) -> None:
    page = ann.post(path, {field: "a\0"})
    assert page.status == 400
    assert f"{field}: expected text without NUL" in text_of(page.text)


@pytest.mark.parametrize("address", ["/queue?name=", "/jobs?queue=", "/find?uid=", "/login?next="])
def test_a_nul_in_an_address_is_refused(ann: Browser, address: str) -> None:
    assert ann.get(f"{address}%00").status == 400


@given(
    path=st.sampled_from(["/jobs/act", "/queue/pause", "/queue/purge"]),
    fields=st.dictionaries(
        st.sampled_from(
            (
                "queue",
                "name",
                "state",
                "action",
                "job",
                "all",
                "confirmed",
                "to",
                "priority",
                "after",
                "older",
                "newer",
                "order",
                "contains",
            )
        ),
        st.one_of(
            st.sampled_from(
                (
                    "queue0",
                    "failed",
                    "deleted",
                    "prioritised",
                    "1",
                    "999-9223372036854775806",
                    "999999w",
                    f"{NO_UID}:queued",
                )
            ),
            st.text(max_size=20),
        ),
    ),
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_form_is_the_servers_fault(ann: Browser, path: str, fields: dict[str, str]) -> None:
    assert ann.post(path, fields).status < 500


SEEN = ("/", "/system", "/audit", "/jobs?queue=queue0", "/queue?name=queue0", "/static/app.js")
SENT = ("/logout", "/jobs/act", "/queue/pause", "/queue/purge")


@pytest.mark.parametrize("path", [*SEEN, *SENT, "/login", f"/jobs/{NO_UID}"])
@pytest.mark.parametrize("method", ["TRACE", "PUT", "DELETE", "PATCH"])
@on_one
def test_a_page_takes_no_other_method_from_anybody(
    house: House, ann: Browser, path: str, method: str
) -> None:
    for browser in (ann, Browser(house.server.port)):
        page = browser.send(method, path, {})
        assert page.status == 405
        assert "TRACE" not in page.headers["allow"]
        assert "OPTIONS" in page.headers["allow"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [*((path, "GET, HEAD") for path in SEEN), ("/login", "GET, HEAD, POST"), ("/logout", "POST")],
)
@on_one
def test_options_of_a_page_tells_its_methods_to_anybody(
    house: House, ann: Browser, path: str, allowed: str
) -> None:
    for browser in (ann, Browser(house.server.port)):
        page = browser.send("OPTIONS", path, {})
        assert (page.status, page.headers["allow"], page.text) == (200, allowed, "")


@pytest.mark.parametrize("path", SEEN)
@on_one
def test_head_of_a_page_is_get_without_the_body(ann: Browser, path: str) -> None:
    get, head = ann.get(path), ann.send("HEAD", path, {})
    assert (head.status, head.text) == (200, "")
    assert head.headers["content-type"] == get.headers["content-type"]


@on_one
def test_head_of_a_page_is_for_who_is_logged_in(house: House) -> None:
    page = Browser(house.server.port).send("HEAD", "/system", {})
    assert (page.status, page.location) == (303, "/login?next=%2Fsystem")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@on_one
def test_a_compressed_form_is_415(ann: Browser, coding: str) -> None:
    page = ann.post("/queue/pause", {"name": "queue0"}, Content_Encoding=coding)
    assert (page.status, page.headers["accept-encoding"]) == (415, "identity")
