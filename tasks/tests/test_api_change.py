"""``PATCH``, ``run-now`` and ``DELETE``: what may be done to a task that does not run."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from tasks import lifecycle
from tasks.book import Book
from tasks.contract import ErrorReport, Failed
from tasks.models import Attempt, Task
from tasks.models.task import database
from tasks.states import Status, WaitingFor
from tasks.storable import to_json
from tasks.tests.api_client import Answer, Api, api
from tasks.tests.rows import LeasedTask, MakeTask, claimant

__all__ = ["api"]

pytestmark = pytest.mark.django_db

LATER, SOON = "2999-01-12T01:37:19.000000Z", "2001-01-12T01:37:19.000000Z"
NOT_PENDING = sorted(set(Status) - {Status.PENDING})


def patch(api: Api, task_id: Any, **members: Any) -> Answer:
    return api.ask("PATCH", f"/tasks/{task_id}", json.dumps(members).encode())


def is_claimed(task_id: Any, queue: str = "default") -> bool:
    leases = lifecycle.claim(claimant(queue, handlers=("demo.echo",)), limit=9, now=timezone.now())
    return str(task_id) in {str(lease.task_id) for lease in leases}


def test_what_may_be_changed_is_changed_and_all_else_stays(api: Api) -> None:
    made = api.create(handler="demo.echo", title="a", payload={"a": 1})
    wished = {
        "title": "b", "queue": "mail", "priority": 7, "payload": {"b": [2]}, "tags": ["x", "y"],
        "run_at": LATER, "expires_at": "2999-02-12T01:37:19.000000Z", "max_attempts": 9,
        "timeout_seconds": 7.5,
    }  # fmt: skip

    answer = patch(api, made["id"], **wished)

    assert answer.status == 200
    reason = answer.json()["pending_reason"]
    assert answer.json() == {**made, **wished, "pending_reason": reason}
    assert (reason["code"], reason["until"]) == ("scheduled", LATER)
    assert api.task(made["id"]) == answer.json()


def test_a_time_limit_is_changed_and_taken_away(api: Api) -> None:
    made = api.create(handler="demo.echo", timeout_seconds=5)
    assert patch(api, made["id"], timeout_seconds=10).json()["timeout_seconds"] == 10

    assert patch(api, made["id"], timeout_seconds=None).json()["timeout_seconds"] is None


def test_one_member_alone_is_changed_alone(api: Api) -> None:
    made = api.create(handler="demo.echo", title="a", tags=["x"], delay_seconds=60)

    assert patch(api, made["id"], priority=-5).json() == {**made, "priority": -5}


@pytest.mark.parametrize("status", NOT_PENDING)
def test_nothing_but_a_pending_task_is_changed(api: Api, make_task: MakeTask, status: Status) -> None:
    task = make_task(status)
    before = api.task(task.pk)

    patch(api, task.pk, priority=1).problem(409, "conflict-state")
    api.post(f"/tasks/{task.pk}/run-now").problem(409, "conflict-state")

    assert api.task(task.pk) == before


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "", "required"),
        ({"status": "completed"}, "/status", "unknown"),
        ({"handler": "demo.sleep"}, "/handler", "unknown"),
        ({"owner": "me"}, "/owner", "unknown"),
        ({"delay_seconds": 5}, "/delay_seconds", "unknown"),
        ({"priority": 101}, "/priority", "range"),
        ({"title": None}, "/title", "type"),
        ({"run_at": LATER, "expires_at": SOON}, "/expires_at", "conflict"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at", "conflict"),
        ({"timeout_seconds": 0}, "/timeout_seconds", "range"),
    ],
)
def test_a_wrong_change_is_told_and_changes_nothing(api: Api, body: Any, pointer: str, code: str) -> None:
    made = api.create()

    problem = patch(api, made["id"], **body).problem(400, "invalid-field")

    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [(pointer, code)]
    assert api.task(made["id"]) == made


def test_a_time_in_the_future_makes_it_wait_and_one_in_the_past_does_not(api: Api) -> None:
    made = api.create(handler="demo.echo")

    patch(api, made["id"], run_at=LATER)
    assert not is_claimed(made["id"])

    patch(api, made["id"], run_at=SOON)
    assert is_claimed(made["id"])


def test_a_task_keeps_its_place_when_something_else_is_changed(api: Api) -> None:
    first, second = api.create(handler="demo.echo"), api.create(handler="demo.echo")
    patch(api, first["id"], title="b", run_at=None)

    [lease] = lifecycle.claim(claimant("default", handlers=("demo.echo",)), limit=1, now=timezone.now())

    assert str(lease.task_id) == first["id"] != second["id"]


def test_a_task_without_a_handler_goes_on_waiting_for_one(api: Api, make_task: MakeTask) -> None:
    task = make_task(waiting_for=WaitingFor.HANDLER, ready_at=None)

    assert api.post(f"/tasks/{task.pk}/run-now").json()["pending_reason"]["code"] == "no_handler"
    patch(api, task.pk, run_at=LATER)
    assert api.task(task.pk)["pending_reason"]["code"] == "scheduled"


@pytest.mark.usefixtures("live_worker")
def test_run_now_does_not_wait_for_the_time(api: Api) -> None:
    made = api.create(handler="demo.echo", delay_seconds=3600)

    answer = api.post(f"/tasks/{made['id']}/run-now")

    assert (answer.status, answer.json()["run_at"]) == (200, None)
    assert answer.json()["pending_reason"]["code"] == "ready"
    assert is_claimed(made["id"])


@pytest.mark.usefixtures("live_worker")
def test_run_now_shortens_a_backoff(api: Api, leased_task: LeasedTask) -> None:
    lease = leased_task(max_attempts=3)
    lifecycle.settle([(lease, Failed(ErrorReport("x.E", "no")))], now=timezone.now())
    assert api.task(lease.task_id)["pending_reason"]["code"] == "retry_backoff"

    assert api.post(f"/tasks/{lease.task_id}/run-now").json()["pending_reason"]["code"] == "ready"


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.PROCESSING}))
def test_a_task_that_does_not_run_is_deleted(api: Api, make_task: MakeTask, status: Status) -> None:
    task = make_task(status)

    answer = api.ask("DELETE", f"/tasks/{task.pk}")

    assert (answer.status, answer.body) == (204, b"")
    api.get(f"/tasks/{task.pk}").problem(404, "not-found")
    api.ask("DELETE", f"/tasks/{task.pk}").problem(404, "not-found")


def test_its_attempts_go_with_it(api: Api, leased_task: LeasedTask) -> None:
    lease = leased_task(max_attempts=1)
    lifecycle.settle([(lease, Failed(ErrorReport("x.E", "no")))], now=timezone.now())
    assert Attempt.objects.count() == 1

    api.ask("DELETE", f"/tasks/{lease.task_id}")

    assert Attempt.objects.count() == 0


def test_a_running_task_is_not_deleted(api: Api, leased_task: LeasedTask) -> None:
    lease = leased_task()

    problem = api.ask("DELETE", f"/tasks/{lease.task_id}").problem(409, "conflict-state")

    assert problem["detail"] == "A task that is processing cannot be deleted."
    assert Task.objects.filter(pk=lease.task_id).exists()


def test_a_late_outcome_of_a_deleted_task_changes_nothing(api: Api, leased_task: LeasedTask) -> None:
    lease = leased_task()
    Task.objects.update(status=Status.PENDING, lease_expires_at=None, ready_at=timezone.now())
    api.ask("DELETE", f"/tasks/{lease.task_id}")

    settlement = lifecycle.settle([(lease, Failed(ErrorReport("x.E", "no")))], now=timezone.now())

    assert settlement.lost == [lease]
    assert Task.objects.count() == 0


@pytest.mark.parametrize(("method", "path"), [("PATCH", ""), ("DELETE", ""), ("POST", "/run-now")])
def test_an_unknown_task_is_not_found(api: Api, method: str, path: str) -> None:
    body = b'{"priority": 1}' if method == "PATCH" else b""

    api.ask(method, f"/tasks/01a20bcf-958e-766c-8076-373a84ef31ff{path}", body).problem(404, "not-found")


def test_no_more_is_stored_by_a_change_than_by_a_request_that_makes_a_task(api: Api) -> None:
    made = api.create(handler="demo.echo")
    with override_settings(TASKSERVICE={**settings.TASKSERVICE, "max_payload_bytes": 1024}):
        patch(api, made["id"], payload={"text": "é" * 600}).problem(413, "too-large")
        assert patch(api, made["id"], payload={"text": "e" * 600}).status == 200


@pytest.mark.parametrize("payload", [{"a": [1, 1e300, {"é": "€\U0001f600"}], "b": None}, {}])
def test_a_change_stores_the_same_text_as_a_request_that_makes_a_task(api: Api, payload: Any) -> None:
    made, changed = api.create(handler="demo.echo", payload=payload), api.create(handler="demo.echo")

    patch(api, changed["id"], payload=payload)

    assert stored_payload(changed["id"]) == stored_payload(made["id"]) == to_json(payload)


def test_a_change_may_store_as_much_as_fits_and_not_a_byte_more(api: Api) -> None:
    made = api.create(handler="demo.echo")
    with override_settings(TASKSERVICE={**settings.TASKSERVICE, "max_payload_bytes": 1024}):
        room = 1024 - len(to_json([]) + '{"":""}')
        fits = "é" * (room // 2) + "e" * (room % 2)

        patch(api, made["id"], payload={"": f"{fits}e"}).problem(413, "too-large")
        assert patch(api, made["id"], payload={"": fits}).status == 200

    assert len(stored_payload(made["id"]).encode()) == room + len('{"":""}')


def stored_payload(task_id: str) -> str:
    """The text as the database has it."""
    alias = database()
    with connections[alias].cursor() as cursor:
        given = Book(alias).id(UUID(task_id))
        cursor.execute("SELECT CAST(payload AS text) FROM tasks WHERE id = %s", [given])
        return str(cursor.fetchone()[0])


def test_attempts_that_were_made_cannot_be_taken_back(api: Api, leased_task: LeasedTask) -> None:
    lease = leased_task(max_attempts=3)
    lifecycle.settle([(lease, Failed(ErrorReport("x.E", "no")))], now=timezone.now())

    [error] = patch(api, lease.task_id, max_attempts=1).problem(400, "invalid-field")["errors"]

    assert (error["pointer"], "1 that were made" in error["detail"]) == ("/max_attempts", True)
    assert patch(api, lease.task_id, max_attempts=2).status == 200


def test_a_time_alone_must_go_with_what_the_task_has(api: Api) -> None:
    made = api.create(handler="demo.echo", expires_at="2998-01-01T00:00:00Z")

    [error] = patch(api, made["id"], run_at=LATER).problem(400, "invalid-field")["errors"]

    assert error["pointer"] == "/expires_at"


def test_a_task_whose_attempts_are_used_up_is_changed_in_all_else(api: Api, make_task: MakeTask) -> None:
    """Such a row should not be; whoever hastens it did not ask for attempts."""
    task = make_task(attempt=3, max_attempts=3, run_at=LATER, waiting_for=WaitingFor.TIME, ready_at=None)

    assert api.post(f"/tasks/{task.pk}/run-now").status == 200
