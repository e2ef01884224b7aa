"""``POST /tasks``: what a client may ask for, what fills the gaps, and how mistakes are told."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.test import override_settings
from django.utils import timezone

from tasks import lifecycle
from tasks.models import Task
from tasks.registry import ServiceTask
from tasks.tests.api_client import Api, api
from tasks.tests.rows import claimant

__all__ = ["api"]

pytestmark = pytest.mark.django_db

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


# -- the first contract


def test_a_title_is_enough_and_the_answer_begins_as_the_first_clients_know_it(api: Api) -> None:
    answer = api.ask("POST", "/tasks", b'{"title": "My first task"}')

    made = answer.json()
    assert answer.status == 201
    assert list(made)[:4] == ["id", "title", "status", "created_at"]
    assert (made["title"], made["status"]) == ("My first task", "pending")
    assert TIME.fullmatch(made["created_at"])
    assert answer.headers["Location"] == f"/tasks/{made['id']}"
    assert answer.headers["Content-Type"] == "application/json"


def test_the_answer_has_all_members_in_their_order(api: Api) -> None:
    assert list(api.create()) == [
        "id", "title", "status", "created_at", "handler", "queue", "priority", "payload", "tags",
        "pending_reason", "run_at", "expires_at", "timeout_seconds", "attempt", "max_attempts", "started_at",
        "finished_at", "result", "error", "unique_key", "worker", "cancel_requested_at", "cancel_reason",
    ]  # fmt: skip


def test_the_id_is_a_time_ordered_uuid(api: Api) -> None:
    first, second = UUID(api.create()["id"]), UUID(api.create()["id"])

    assert (first.version, second.version) == (7, 7)
    assert first < second


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "text/plain", "", "multipart/form-data; boundary=x"]
)
def test_the_body_is_json_whatever_its_content_type_says(api: Api, content_type: str) -> None:
    answer = api.ask("POST", "/tasks", b'{"title": "a"}', content_type=content_type)

    assert answer.status == 201


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "nonsense"])
def test_the_answer_is_json_whatever_the_client_accepts(api: Api, accept: str) -> None:
    answer = api.ask("POST", "/tasks", b'{"title": "a"}', accept=accept)

    assert (answer.status, answer.headers["Content-Type"]) == (201, "application/json")


def test_a_task_exists_once_it_is_acknowledged(api: Api) -> None:
    made = api.create(title="a")

    assert Task.objects.get(pk=made["id"]).title == "a"


def test_a_task_made_over_http_can_be_claimed(api: Api) -> None:
    made = api.create(handler="demo.echo", payload={"n": 1}, queue="claimed")
    [lease] = lifecycle.claim(claimant("claimed"), limit=1, now=timezone.now())

    assert str(lease.task_id) == made["id"]
    assert json.loads(lease.payload) == {"n": 1}


# -- every member


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("title", "ä" * 1000),
        ("title", " spaces stay "),
        ("handler", "demo.echo"),
        ("payload", {"a": [1, 2.5, None, True, "ü€😀", {"b": {}}], "": "empty key"}),
        ("payload", {"whole": 2**63 - 1, "negative": -(2**63)}),
        ("queue", "A-z_0.9:x"),
        ("queue", "q" * 64),
        ("priority", -100),
        ("priority", 100),
        ("max_attempts", 1),
        ("max_attempts", 1000),
        ("timeout_seconds", 0.25),
        ("timeout_seconds", 1_000_000),
        ("timeout_seconds", None),
    ],
)
def test_what_is_asked_for_is_what_the_task_has(api: Api, member: str, value: Any) -> None:
    made = api.create(**{"handler": "demo.echo", member: value})

    assert made[member] == value
    assert api.task(made["id"]) == made


def test_a_whole_number_may_be_written_with_a_fraction_of_zero(api: Api) -> None:
    made = api.create(title="a", priority=7.0, timeout_seconds=30.0)

    assert (repr(made["priority"]), repr(made["timeout_seconds"])) == ("7", "30")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2030-01-12T01:37:19Z", "2030-01-12T01:37:19.000000Z"),
        ("2030-01-12t01:37:19.5z", "2030-01-12T01:37:19.500000Z"),
        ("2030-01-12 01:37:19+05:30", "2030-01-11T20:07:19.000000Z"),
        ("2030-01-12T01:37:19.123456789-00:00", "2030-01-12T01:37:19.123456Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_times_are_the_same_utc_text_in_every_answer(api: Api, written: str, meant: str) -> None:
    made = api.create(title="a", run_at=written)

    assert made["run_at"] == meant
    assert api.task(made["id"])["run_at"] == meant


def test_a_task_of_the_future_is_scheduled(api: Api) -> None:
    made = api.create(title="a", run_at="2090-01-01T00:00:00Z")

    reason = made["pending_reason"]
    assert (reason["code"], reason["until"]) == ("scheduled", "2090-01-01T00:00:00.000000Z")
    assert Task.objects.get(pk=made["id"]).ready_at is None


@pytest.mark.usefixtures("live_worker")
def test_a_task_of_the_past_is_ready(api: Api) -> None:
    made = api.create(title="a", run_at="2020-01-01T00:00:00Z")

    assert made["pending_reason"]["code"] == "ready"
    assert Task.objects.get(pk=made["id"]).ready_at is not None


def test_delay_seconds_count_from_now(api: Api) -> None:
    before = datetime.now(UTC)
    made = api.create(title="a", delay_seconds=3600.5)

    run_at = datetime.fromisoformat(made["run_at"])
    assert timedelta(seconds=3600) < run_at - before < timedelta(seconds=3660)


@pytest.mark.usefixtures("live_worker")
@pytest.mark.parametrize("members", [{"run_at": None}, {"delay_seconds": None}, {"delay_seconds": 0}])
def test_no_time_and_no_delay_mean_at_once(api: Api, members: dict[str, Any]) -> None:
    made = api.create(title="a", **members)

    assert made["pending_reason"]["code"] == "ready"


# -- what fills the gaps


@pytest.mark.usefixtures("own_registry")
def test_what_the_body_does_not_say_the_handler_says(api: Api) -> None:
    _register_report()

    made = api.create(handler="test.report")

    assert (made["queue"], made["priority"], made["max_attempts"]) == ("reports", 7, 2)
    assert (made["timeout_seconds"], made["tags"], made["title"]) == (9, ["monthly"], "Monthly report")


@pytest.mark.usefixtures("own_registry")
def test_what_the_body_says_counts_more_than_what_the_handler_says(api: Api) -> None:
    _register_report()
    asked = {"title": "x", "queue": "q", "priority": 0, "max_attempts": 4, "timeout_seconds": None}

    made = api.create(handler="test.report", **asked)

    assert {name: made[name] for name in asked} == asked


def report() -> None: ...


def _register_report() -> None:
    ServiceTask(
        func=report,
        public_name="test.report",
        queue_name="reports",
        priority=7,
        max_attempts=2,
        timeout=timedelta(seconds=9),
        tags=["monthly"],
        title="Monthly report",
    )


def test_only_a_title_runs_the_default_handler(api: Api) -> None:
    with override_settings(TASKSERVICE={**settings.TASKSERVICE, "default_handler": "demo.echo"}):
        made = api.create(title="a")

    assert made["handler"] == "demo.echo"


@pytest.mark.parametrize("name", ["os.system", "tasks.handlers.sleep", "demo.nothing", "é\n", "x" * 255])
def test_a_handler_that_is_not_public_cannot_be_asked_for(api: Api, name: str) -> None:
    problem = api.post("/tasks", {"handler": name}).problem(422, "unknown-handler")

    assert repr(name) in problem["detail"]
    assert not Task.objects.exists()


def test_tags_take_the_place_of_the_handlers_and_each_counts_once(api: Api) -> None:
    assert api.create(handler="demo.echo", tags=["a", "b", "a"])["tags"] == ["a", "b"]


def test_a_time_to_expire_is_kept(api: Api) -> None:
    made = api.create(handler="demo.echo", expires_at="2030-01-12T01:37:19+01:00")

    assert made["expires_at"] == "2030-01-12T00:37:19.000000Z"


def test_nothing_may_expire_before_it_could_run(api: Api) -> None:
    times = {"run_at": "2030-01-12T00:00:00Z", "expires_at": "2030-01-12T01:00:00+01:00"}

    problem = api.post("/tasks", {"handler": "demo.echo", **times}).problem(400, "invalid-field")

    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [("/expires_at", "conflict")]
