"""Mistakes in ``POST /tasks``: all told at once, each by its place in the body; nothing is made."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest

from tasks.errors import InvalidFields, UnknownHandler
from tasks.members import ERRORS_SHOWN
from tasks.models import Task
from tasks.specs import spec_from_json, specs_from_json
from tasks.tests.api_client import Api, api

__all__ = ["api"]

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [
        ("title", 1, "type"),
        ("title", None, "type"),
        ("title", "", "blank"),
        ("title", " \t\n", "blank"),
        ("title", "x" * 1001, "length"),
        ("handler", ["demo.echo"], "type"),
        ("handler", "", "blank"),
        ("handler", "x" * 256, "length"),
        ("payload", [1], "type"),
        ("payload", None, "type"),
        ("payload", "text", "type"),
        ("queue", "", "format"),
        ("queue", "with space", "format"),
        ("queue", "x" * 65, "format"),
        ("queue", "mail\n", "format"),
        ("queue", "ünicode", "format"),
        ("queue", 1, "type"),
        ("priority", 101, "range"),
        ("priority", -101, "range"),
        ("priority", 1.5, "type"),
        ("priority", True, "type"),
        ("priority", "1", "type"),
        ("priority", None, "type"),
        ("priority", 1e300, "range"),
        ("run_at", "2026-01-12", "format"),
        ("run_at", "2026-01-12T01:37:19", "format"),
        ("run_at", "2026-02-30T01:37:19Z", "range"),
        ("run_at", "2026-01-12T01:37:61Z", "range"),
        ("run_at", "2026-01-12T01:37:19+25:00", "range"),
        ("run_at", "0001-01-01T00:00:00+01:00", "range"),
        ("run_at", "9999-12-31T23:59:59-01:00", "range"),
        ("run_at", "٢٠٢٦-01-12T01:37:19Z", "format"),
        ("run_at", 1768181839, "type"),
        ("expires_at", "soon", "format"),
        ("expires_at", "2020-01-01T00:00:00Z", "range"),
        ("expires_at", 5, "type"),
        ("tags", "demo", "type"),
        ("tags", [1], "type"),
        ("tags", None, "type"),
        ("tags", ["x" * 65], "length"),
        ("tags", [" "], "length"),
        ("tags", ["x"] * 21, "length"),
        ("delay_seconds", -1, "range"),
        ("delay_seconds", 1e12, "range"),
        ("delay_seconds", "5", "type"),
        ("delay_seconds", False, "type"),
        ("max_attempts", 0, "range"),
        ("max_attempts", 1001, "range"),
        ("max_attempts", None, "type"),
        ("timeout_seconds", 0, "range"),
        ("timeout_seconds", -5, "range"),
        ("timeout_seconds", 1e-9, "range"),
        ("timeout_seconds", 1_000_001, "range"),
        ("timeout_seconds", {}, "type"),
        ("colour", "red", "unknown"),
        ("owner", "me", "unknown"),
        ("status", "completed", "unknown"),
        ("", 1, "unknown"),
    ],
)
def test_a_wrong_member_is_refused_by_name(api: Api, member: str, value: Any, code: str) -> None:
    answer = api.post("/tasks", {"title": "a", "handler": "demo.echo", member: value})

    [error] = answer.problem(400, "invalid-field")["errors"]
    assert (error["pointer"], error["code"]) == (f"/{member}", code)
    assert error["detail"].startswith(member)
    assert not Task.objects.exists()


def test_everything_that_is_wrong_is_said_at_once(api: Api) -> None:
    wrong = {"titel": "a", "priority": 1000, "queue": "a b", "payload": 1, "handler": 7}

    problem = api.post("/tasks", wrong).problem(400, "invalid-field")

    assert {error["pointer"] for error in problem["errors"]} == {f"/{name}" for name in wrong} - {"/title"}
    assert "priority must be from -100 to 100" in problem["detail"]


@pytest.mark.parametrize("body", [{}, {"payload": {}}, {"queue": "mail", "priority": 1}])
def test_a_title_or_a_handler_is_required(api: Api, body: dict[str, Any]) -> None:
    [error] = api.post("/tasks", body).problem(400, "invalid-field")["errors"]

    assert (error["pointer"], error["code"]) == ("/title", "required")


def test_run_at_and_delay_seconds_exclude_each_other(api: Api) -> None:
    body = {"title": "a", "run_at": "2030-01-01T00:00:00Z", "delay_seconds": 1}

    [error] = api.post("/tasks", body).problem(400, "invalid-field")["errors"]

    assert (error["pointer"], error["code"]) == ("/delay_seconds", "conflict")


def test_wrong_members_are_told_before_an_unknown_handler(api: Api) -> None:
    api.post("/tasks", {"handler": "no.such", "priority": 1000}).problem(400, "invalid-field")


@pytest.mark.parametrize(
    ("name", "queues", "near"),
    [
        ("demo.ecko", None, "did you mean 'demo.echo'?"),
        ("demo.ecko", ["default"], "did you mean 'demo.echo'?"),
        ("demo.ecko", ["mail"], "check the spelling"),  # it goes to a queue that this token is not for
        ("tasks.handlers.ech", None, "check the spelling"),  # the path of one is not public
        ("quite.another", None, "check the spelling"),
    ],
)
def test_a_handler_that_was_perhaps_meant_is_named(name: str, queues: list[str] | None, near: str) -> None:
    wish = {"handler": name, "queue": "mail"}

    for ask in (
        lambda: spec_from_json(wish, owner="", queues=queues, now=_never),
        lambda: specs_from_json({"tasks": [wish] * 1000}, owner="", queues=queues, now=_never),
    ):
        with pytest.raises(UnknownHandler, match=re.escape(near)):
            ask()


def test_names_are_escaped_in_pointers(api: Api) -> None:
    [error] = api.post("/tasks", {"title": "a", "a/b~c": 1}).problem(400, "invalid-field")["errors"]

    assert error["pointer"] == "/a~1b~0c"


def test_the_answer_to_thousands_of_mistakes_is_short(api: Api) -> None:
    answer = api.post("/tasks", {f"unknown{number}": 1 for number in range(10_000)})

    assert len(answer.problem(400, "invalid-field")["errors"]) == ERRORS_SHOWN
    assert len(answer.body) < 20_000


# -- the check itself, as batches and schedules will use it


def test_pointers_begin_where_the_task_is_in_the_body() -> None:
    with pytest.raises(InvalidFields) as caught:
        spec_from_json({"title": ""}, owner="", now=_never, at="/tasks/3")

    assert [error.pointer for error in caught.value.fields] == ["/tasks/3/title"]


@pytest.mark.parametrize("value", [None, [], "text", 1])
def test_a_task_must_be_an_object(value: Any) -> None:
    with pytest.raises(InvalidFields) as caught:
        spec_from_json(value, owner="", now=_never, at="/tasks/0")

    assert [(error.pointer, error.code) for error in caught.value.fields] == [("/tasks/0", "type")]


def test_a_spec_belongs_to_its_owner() -> None:
    assert spec_from_json({"title": "a"}, owner="somebody", now=_never).owner == "somebody"


def _never() -> datetime:
    raise AssertionError("the clock is asked only for a delay")
