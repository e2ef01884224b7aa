"""``POST /tasks/batch``: many tasks in one request and one commit, all of them or none."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from tasks.api.bodies import MAX_BATCH_BYTES, MAX_BODY_BYTES
from tasks.limits import BATCH_TASKS
from tasks.members import ERRORS_SHOWN
from tasks.models import Task
from tasks.tests.api_client import Api, api

__all__ = ["api"]

pytestmark = pytest.mark.django_db

PLAIN = {"handler": "demo.echo"}


def post(api: Api, tasks: Any) -> Any:
    return api.post("/tasks/batch", {"tasks": tasks})


def test_the_tasks_come_back_in_the_order_in_which_they_were_asked_for(api: Api) -> None:
    answer = post(api, [{**PLAIN, "title": str(number), "priority": number % 3} for number in range(100)])

    items = answer.json()["items"]
    assert answer.status == 201
    assert [item["title"] for item in items] == [str(number) for number in range(100)]
    assert items == [api.task(item["id"]) for item in items]


def test_their_ids_are_sorted_as_they_are(api: Api) -> None:
    ids = [UUID(item["id"]) for item in post(api, [PLAIN] * 50).json()["items"]]

    assert ids == sorted(ids)


def test_as_many_as_allowed_are_made_at_once(api: Api) -> None:
    assert post(api, [PLAIN] * BATCH_TASKS).status == 201
    assert Task.objects.count() == BATCH_TASKS


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/tasks", "required"),
        ({"tasks": {}}, "/tasks", "type"),
        ({"tasks": None}, "/tasks", "type"),
        ({"tasks": []}, "/tasks", "length"),
        ({"tasks": [PLAIN] * (BATCH_TASKS + 1)}, "/tasks", "length"),
        ({"tasks": [PLAIN], "queue": "mail"}, "/queue", "unknown"),
        ({"tasks": [PLAIN, 1]}, "/tasks/1", "type"),
        ({"tasks": [PLAIN, {}]}, "/tasks/1/title", "required"),
        ({"tasks": [PLAIN, {**PLAIN, "priority": 1000}]}, "/tasks/1/priority", "range"),
        ({"tasks": [{**PLAIN, "a/b~c": 1}]}, "/tasks/0/a~1b~0c", "unknown"),
    ],
)
def test_what_is_wrong_is_told_by_its_place_and_nothing_is_made(
    api: Api, body: Any, pointer: str, code: str
) -> None:
    problem = api.post("/tasks/batch", body).problem(400, "invalid-field")

    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [(pointer, code)]
    assert Task.objects.count() == 0


def test_all_that_is_wrong_is_told_at_once_up_to_a_bound(api: Api) -> None:
    wrong = [{**PLAIN, "priority": 1000, "queue": "no queue"}] * 3

    assert len(post(api, [PLAIN, *wrong]).problem(400, "invalid-field")["errors"]) == 6
    assert len(post(api, wrong * 100).problem(400, "invalid-field")["errors"]) == ERRORS_SHOWN


def test_an_unknown_handler_is_told_by_its_place(api: Api) -> None:
    problem = post(api, [PLAIN, PLAIN, {"handler": "demo.nobody"}]).problem(422, "unknown-handler")

    assert [error["pointer"] for error in problem["errors"]] == ["/tasks/2/handler"]
    assert "demo.nobody" in problem["errors"][0]["detail"]
    assert Task.objects.count() == 0


def test_a_payload_that_is_too_large_for_one_task_is_too_large_in_a_batch(api: Api) -> None:
    large = {**PLAIN, "payload": {"text": "x" * MAX_BODY_BYTES}}

    post(api, [PLAIN, large]).problem(413, "too-large")

    assert Task.objects.count() == 0


def test_a_batch_may_be_larger_than_other_bodies_and_is_bounded_too(api: Api) -> None:
    some = {**PLAIN, "payload": {"text": "x" * 200_000}}
    assert post(api, [some] * 30).status == 201

    filled = json.dumps({"tasks": [PLAIN]}).encode().ljust(MAX_BATCH_BYTES + 1)
    problem = api.ask("POST", "/tasks/batch", filled).problem(413, "too-large")
    assert f"{MAX_BATCH_BYTES:,}" in problem["detail"]


def test_delays_of_one_batch_count_from_one_moment(api: Api) -> None:
    items = post(api, [{**PLAIN, "delay_seconds": 60}] * 20).json()["items"]

    assert len({item["run_at"] for item in items}) == 1


def test_there_is_nothing_to_get_at_its_path(api: Api) -> None:
    assert (
        api.get("/tasks/batch").problem(405, "method-not-allowed")["detail"] == "allowed here: POST, OPTIONS"
    )
