"""Hostile bodies: whatever a client sends, it gets a task or a problem, and never an error of ours."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks.api.bodies import MAX_BODY_BYTES, parse
from tasks.errors import InvalidJson
from tasks.models import Task
from tasks.tests.api_client import Answer, Api, api

__all__ = ["api"]

pytestmark = pytest.mark.django_db

hostile = settings(
    max_examples=150,
    database=None,  # writes no files
    deadline=None,  # the machine may be busy
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def _nested(depth: int) -> bytes:
    """An object in which the payload makes it so many levels deep."""
    inner = b"[" * (depth - 2) + b"]" * (depth - 2)
    return b'{"title":"a","payload":{"x":' + inner + b"}}"


NO_JSON = [
    b"",
    b" ",
    b"{",
    b"nonsense",
    b'{"title":"a"',
    b'{"title":"a"}}',
    b'{"title":"a"} trailing',
    b'{"title":"a"}{"title":"b"}',
    b"{'title':'a'}",
    b'{"title":"a",}',
    b'{title:"a"}',
    b'{"title":"a"} // comment',
    b"title=a",
    b"[]",
    b'[{"title":"a"}]',
    b'"title"',
    b"1",
    b"null",
    b"true",
    b'\xef\xbb\xbf{"title":"a"}',
    '{"title":"a"}'.encode("utf-16"),
    '{"title":"ü"}'.encode("latin-1"),
    b'{"title":"\xff"}',
    b'{"title":"\xed\xa0\x80"}',  # a surrogate, written as UTF-8 all the same
    b'{"title":"a\x00b"}',
    b'{"title":"a\nb"}',
    b'{"title":"\\u0000"}',
    b'{"title":"a","payload":{"\\u0000":1}}',
    b'{"title":"\\ud800"}',
    b'{"title":"\\udc00\\ud800"}',
    b'{"title":"a","payload":{"x":["\\udfff"]}}',
    b'{"title":"a","title":"a"}',
    b'{"title":"a","payload":{"x":{"y":1,"y":2}}}',
    b'{"title":"a","payload":{"x":NaN}}',
    b'{"title":"a","payload":{"x":Infinity}}',
    b'{"title":"a","payload":{"x":-Infinity}}',
    b'{"title":"a","payload":{"x":1e999}}',
    b'{"title":"a","payload":{"x":-1e999}}',
    b'{"title":"a","payload":{"x":9223372036854775808}}',
    b'{"title":"a","payload":{"x":-9223372036854775809}}',
    b'{"title":"a","priority":' + b"9" * 5000 + b"}",
    b'{"title":"a","payload":{"x":01}}',
    _nested(66),
    b"[" * 100_000,
    b'{"a":' * 40_000,
    b"\x1f\x8b\x08\x00not really gzip",
]


@pytest.mark.parametrize("body", NO_JSON, ids=lambda body: repr(body[:40]))
def test_what_is_not_one_storable_json_object_is_invalid_json(api: Api, body: bytes) -> None:
    problem = api.ask("POST", "/tasks", body).problem(400, "invalid-json")

    assert problem["detail"] == "invalid JSON"
    [error] = problem["errors"]
    assert error["detail"]
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        _nested(64),
        b'{"title":"a","payload":{"x":9223372036854775807,"y":-9223372036854775808}}',
        b'{"title":"a","payload":{"x":1e308,"y":-0.0,"z":1E-400}}',
        '{"title":"𝄞 e\u0301 \u202e \ufffe"}'.encode(),
        b'{"title":"\\ud834\\udd1e"}',
        b'\r\n\t {"title" : "a"} \n',
        b'{"title":"a","payload":{"__proto__":1,"constructor":{},"$where":"1","' + b"k" * 10_000 + b'":0}}',
        b'{"title":"\'; DROP TABLE tasks; --"}',
        b'{"title":"%s %(x)s {} \\u007f"}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_what_is_odd_but_storable_comes_back_as_it_was(api: Api, body: bytes) -> None:
    made = api.ask("POST", "/tasks", body)

    assert made.status == 201, made.body
    asked = json.loads(body)
    shown = api.task(made.json()["id"])
    assert {name: shown[name] for name in asked} == asked
    assert made.json() == shown


# -- sizes


def _of_size(size: int) -> bytes:
    frame = b'{"title":"a","payload":{"x":""}}'
    return frame.replace(b'""', b'"' + b"x" * (size - len(frame)) + b'"')


def test_a_body_of_the_largest_size_is_taken(api: Api) -> None:
    assert api.ask("POST", "/tasks", _of_size(MAX_BODY_BYTES)).status == 201


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 3_000_000])
@pytest.mark.parametrize("verb", ["", "/01a20bcf-958e-766c-8076-373a84ef31ff/cancel"])
def test_a_larger_body_is_too_large(api: Api, verb: str, size: int) -> None:
    problem = api.ask("POST", f"/tasks{verb}", _of_size(size)).problem(413, "too-large")

    assert f"{MAX_BODY_BYTES:,}" in problem["detail"]
    assert not Task.objects.exists()


def test_a_payload_that_grows_beyond_the_limit_when_it_is_stored_is_too_large(api: Api) -> None:
    body = b'{"title":"a","payload":{"x":[' + b",".join([b"1e15"] * 50_000) + b"]}}"

    api.ask("POST", "/tasks", body).problem(413, "too-large")


# -- anything at all


def assert_honest(answer: Answer) -> None:
    """A task that is there, or a problem that says why not."""
    value = answer.json()
    if answer.status == 201:
        assert Task.objects.filter(pk=value["id"]).exists()
        return
    assert answer.status in (400, 413, 422), value
    answer.problem(answer.status, value["type"].removeprefix("/problems/"))


@hostile
@given(body=st.binary(max_size=300))
@example(body=b"\x00")
def test_any_bytes_get_an_honest_answer(api: Api, body: bytes) -> None:
    assert_honest(api.ask("POST", "/tasks", body))


PIECES = [
    *(b'{"title":', b'"handler":', b'"demo.echo"', b'"payload":', b"{", b"}", b"[", b"]", b",", b":", b'"'),
    *(
        b"\\u0000",
        b"\\ud800",
        b"NaN",
        b"1e999",
        b"9" * 30,
        b"null",
        b"true",
        b"-",
        b"\xff",
        b" ",
        b'"a"',
        b"0.1",
    ),
]


@hostile
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=30))
def test_near_json_gets_an_honest_answer(api: Api, pieces: list[bytes]) -> None:
    assert_honest(api.ask("POST", "/tasks", b"".join(pieces)))


ANY_TEXT = st.text(st.characters(), max_size=20)  # with surrogates and NUL
ANY_VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=10,
)
MEMBERS = ("title", "handler", "payload", "queue", "priority", "run_at", "delay_seconds", "max_attempts")


@hostile
@given(
    body=st.dictionaries(
        st.sampled_from([*MEMBERS, "timeout_seconds", "other"]),
        ANY_VALUE | st.sampled_from(["demo.echo", "2026-01-12T01:37:19Z", {}, 1, 5.0]),
        max_size=6,
    )
)
def test_any_members_get_an_honest_answer(api: Api, body: dict[str, Any]) -> None:
    assert_honest(api.ask("POST", "/tasks", json.dumps(body).encode()))


@hostile
@given(payload=st.dictionaries(ANY_TEXT, ANY_VALUE, max_size=5))
def test_a_payload_that_is_taken_comes_back_unchanged(api: Api, payload: dict[str, Any]) -> None:
    answer = api.post("/tasks", {"handler": "demo.echo", "payload": payload})

    assert_honest(answer)
    if answer.status == 201:
        assert answer.json()["payload"] == payload
        assert api.task(answer.json()["id"])["payload"] == payload


PARAMETERS = ["id", "status", "queue", "handler", "limit", "cursor", "x"]


@hostile
@given(query=st.dictionaries(st.sampled_from(PARAMETERS), ANY_TEXT))
def test_any_query_gets_an_honest_answer(api: Api, query: dict[str, str]) -> None:
    text = "&".join(f"{name}={quote(value, errors='surrogatepass')}" for name, value in query.items())

    for path, statuses in (("/tasks", (200, 400)), ("/task", (400, 404))):
        answer = api.get(f"{path}?{text}")
        assert answer.status in statuses, answer.body


STORABLE_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
STORABLE: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | STORABLE_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(STORABLE_TEXT, inner),
    max_leaves=20,
)


@hostile
@given(value=STORABLE)
def test_storable_json_is_read_as_it_was_written(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"1e400", b"-1e400"])
def test_numbers_that_are_none_are_refused_wherever_they_are(constant: bytes) -> None:
    with pytest.raises(InvalidJson):
        parse(b"[[" + constant + b"]]")
