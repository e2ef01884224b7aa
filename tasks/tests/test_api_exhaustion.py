"""What one request can cost: however large, deep, long or clever, little (API4:2023)."""

from __future__ import annotations

import gzip
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
from django.utils import timezone

from tasks import members
from tasks.api.bodies import MAX_BATCH_BYTES, MAX_BODY_BYTES, parse, parse_object
from tasks.api.pagination import MAX_LIMIT
from tasks.errors import InvalidFields, InvalidJson
from tasks.models import Task
from tasks.specs import changes_from_json, spec_from_json, specs_from_json
from tasks.tests.api_client import Api, api
from tasks.tests.rows import MakeTask

__all__ = ["api"]

pytestmark = pytest.mark.django_db

MANY = b",".join(b'"%x":1' % number for number in range(700_000))
FEWER = MANY[: MANY.index(b',"5000"')]
FEW_MEGABYTES = 8 * 2**20


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Of this process's own work: the machine may be busy."""
    began = time.process_time()
    yield
    assert time.process_time() - began < seconds


def specs(value: Any) -> Any:
    return specs_from_json(value, owner="", now=timezone.now)


def spec(value: Any) -> Any:
    return spec_from_json(value, owner="", now=timezone.now)


@pytest.mark.parametrize(
    ("check", "body"),
    [
        (specs, b'{"tasks":[{' + MANY + b"}]}"),
        (specs, b"{" + MANY + b"}"),
        (specs, b'{"tasks":[' + b",".join([b'{"x":1,"y":2,"z":3}'] * 300_000) + b"]}"),
        (specs, b'{"tasks":[{"title":"a","tags":[' + b'"",' * 2_000_000 + b'""]}]}'),
        (spec, b"{" + FEWER + b"}"),
        (changes_from_json, b"{" + FEWER + b"}"),
    ],
    ids=["members-of-a-task", "members-of-a-batch", "tasks", "tags", "members", "members-of-a-change"],
)
def test_complaints_about_a_body_cost_no_more_than_are_shown(
    check: Callable[[Any], Any], body: bytes
) -> None:
    value = parse_object(body)
    assert len(body) < MAX_BATCH_BYTES + 2**20

    tracemalloc.start()
    with pytest.raises(InvalidFields) as refused:
        check(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < FEW_MEGABYTES
    assert len(refused.value.fields) <= members.ERRORS_SHOWN


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity", "gzip, gzip"])
def test_no_body_is_unpacked_whatever_its_coding(api: Api, coding: str) -> None:
    """So that no small one becomes a large one."""
    large = b'{"title": "a", "payload": {"x": "' + b"0" * 50_000_000 + b'"}}'
    packed = zlib.compress(large) if coding == "deflate" else gzip.compress(large)
    assert len(packed) < MAX_BODY_BYTES

    with within(1):
        answer = api.ask("POST", "/tasks", packed, **{"Content-Encoding": coding})

    answer.problem(400, "invalid-json")
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    "text",
    ["%" * 200, "_" * 200, "%_" * 100, "%a" * 100, "\\" * 200, "(a+)+" * 40, "[" * 200, "' OR 1=1 --",
     "*?" * 100, "ß" * 200, "\u202e" * 200],
    ids=repr,
)  # fmt: skip
def test_a_search_is_for_the_text_itself_and_no_pattern(api: Api, make_task: MakeTask, text: str) -> None:
    for _ in range(50):
        make_task(title="a" * 1000)
    wanted = make_task(title=text)

    with within(2):
        found = api.get(f"/tasks?q={quote(text)}").json()["items"]

    assert [item["id"] for item in found] == [str(wanted.pk)]


@pytest.mark.parametrize(
    "query",
    ["limit=201", "limit=0", "limit=-1", "limit=1e2",
     "limit=" + "9" * 5000, "limit=%D9%A1", "limit=1&limit=2",
     "cursor=" + "x" * 5000, "cursor=%00", "cursor=" + "a:" * 2000, "q=" + "x" * 201, "tag=" + "x" * 65,
     "handler=" + "x" * 256, "x" * 5000 + "=1", "offset=1000000", "page_size=1000000"],
    ids=lambda query: query[:20],
)  # fmt: skip
def test_no_parameter_widens_a_list_or_is_taken_at_any_length(api: Api, query: str) -> None:
    with within(1):
        answer = api.get(f"/tasks?{query}")

    answer.problem(400, "invalid-field")
    assert len(answer.body) < 2_000


def test_a_page_is_no_longer_than_the_limit(api: Api, make_task: MakeTask) -> None:
    for _ in range(MAX_LIMIT + 1):
        make_task()

    assert len(api.get(f"/tasks?limit={MAX_LIMIT}").json()["items"]) == MAX_LIMIT


@pytest.mark.parametrize("separator", ["&", ";", "&&&&"])
def test_many_parameters_are_refused_before_they_are_looked_at(api: Api, separator: str) -> None:
    with within(1):
        answer = api.get("/tasks?" + separator.join(f"a{number}=1" for number in range(50_000)))

    assert answer.status == 400
    assert len(answer.body) < 100_000


def test_a_form_is_no_way_around_the_limits(api: Api) -> None:
    """The API reads JSON alone: no fields, no files."""
    files = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="f%d"; filename="f"\r\n\r\na\r\n' % n
        for n in range(3000)
    )

    with within(1):
        answer = api.ask("POST", "/tasks", files + b"--x--", content_type="multipart/form-data; boundary=x")

    answer.problem(400, "invalid-json")


@pytest.mark.parametrize("piece", [b"[", b'{"a":', b"[[],"])
def test_the_depth_of_the_largest_body_is_bounded_before_it_takes_the_stack(piece: bytes) -> None:
    with within(2), pytest.raises(InvalidJson):
        parse(piece * (MAX_BATCH_BYTES // len(piece)))
