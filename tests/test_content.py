"""Content comes back as it was sent, byte for byte."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness.client import Api

CONTENTS = [
    b"{}",
    b'{"b":1,"a":2,"B":3}',
    b'{"big":123456789012345678901234567890,"neg":-98765432109876543210}',
    b'{"one":1,"float":1.0,"exp":1e2,"Exp":1E+2,"zero":-0.0,"tiny":1e-999}',
    '{"text":"žluťoučký 馬 🐎 \u2028"}'.encode(),
    rb'{"escapes":"\u00e9\n\/\"\\\ud83d\udc0e\u0000"}',
    b'{ "spaces" : [ 1 , 2 ] ,\n\t"nested" : { "a" : { } } }',
    b'{"twice":1,"twice":2}',
    b'{"deep":' + b"[" * 400 + b"]" * 400 + b"}",
]


@pytest.mark.parametrize("content", CONTENTS)
def test_content_comes_back_byte_for_byte_from_every_call(api: Api, content: bytes) -> None:
    body = b'{"valid_for": 600, "content": ' + content + b', "priority": 1}'
    created = api.send("PUT", "/api/v1/jobs/create", body)
    assert created.status == 201, created
    expected = b'{"content":' + content + b',"created"'
    uid = created.json()["uid"]
    assert created.body.startswith(expected)
    assert api.get(uid).body.startswith(expected)
    assert api.all().body.startswith(b'{"0":' + expected)
    assert api.next().body.startswith(expected)
    assert api.update(uid, status="complete").body.startswith(expected)


@pytest.mark.parametrize("content", CONTENTS)
def test_an_update_overwrites_the_content_byte_for_byte(api: Api, content: bytes) -> None:
    uid = api.made(content={"old": True})["uid"]
    updated = api.send("POST", f"/api/v1/jobs/{uid}", b'{"content":' + content + b"}")
    expected = b'{"content":' + content + b',"created"'
    assert updated.body.startswith(expected)
    assert api.get(uid).body.startswith(expected)


_text = st.text(st.characters(exclude_categories=["Cs"]))  # no lone surrogates
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    content=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), _json),
    ascii_only=st.booleans(),
)
def test_any_json_object_comes_back(api: Api, content: dict[str, object], ascii_only: bool) -> None:
    text = json.dumps(content, ensure_ascii=ascii_only).encode()
    body = b'{"content":' + text + b',"valid_for":600,"priority":1}'
    created = api.send("PUT", "/api/v1/jobs/create", body)
    assert created.status == 201, created
    assert api.get(created.json()["uid"]).body.startswith(b'{"content":' + text + b',"created"')


def test_a_job_of_the_largest_body_is_accepted_and_comes_back(api: Api) -> None:
    limit = 1024 * 1024
    shell = b'{"content":{"a":"%s"},"valid_for":600,"priority":1}'
    body = shell % (b"x" * (limit - len(shell) + 2))
    assert len(body) == limit
    created = api.send("PUT", "/api/v1/jobs/create", body)
    assert created.status == 201
    assert api.next().json()["content"] == json.loads(body)["content"]
    assert api.send("PUT", "/api/v1/jobs/create", body + b" ").status == 413
