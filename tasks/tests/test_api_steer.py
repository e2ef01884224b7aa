"""Cancel and retry over HTTP: the answer tells the truth about what happened."""

from __future__ import annotations

import pytest
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import Cancelled, Succeeded
from tasks.models import Task
from tasks.states import FINISHED, Status
from tasks.tests.api_client import Api, api
from tasks.tests.rows import LeasedTask, MakeTask, claimant

__all__ = ["api"]

LIVE = sorted(set(Status) - FINISHED)


def test_a_pending_task_is_cancelled_at_once(api: Api) -> None:
    made = api.create(queue="cancelled", title="a")

    answer = api.post(f"/tasks/{made['id']}/cancel")

    shown = answer.json()
    assert (answer.status, shown["status"]) == (200, "cancelled")
    assert shown["finished_at"] is not None
    assert shown == api.task(made["id"])
    assert lifecycle.claim(claimant("cancelled"), limit=1, now=timezone.now()) == []


def test_a_scheduled_task_is_cancelled_at_once(api: Api) -> None:
    made = api.create(title="a", delay_seconds=3600)

    answer = api.post(f"/tasks/{made['id']}/cancel")

    assert (answer.status, answer.json()["status"], answer.json()["pending_reason"]) == (
        200,
        "cancelled",
        None,
    )


def test_a_running_task_is_asked_to_stop(api: Api, leased_task: LeasedTask) -> None:
    lease = leased_task()

    answer = api.post(f"/tasks/{lease.task_id}/cancel")

    shown = answer.json()
    assert (answer.status, shown["status"]) == (202, "processing")
    assert shown["cancel_requested_at"] is not None


def test_asking_again_to_stop_changes_nothing(api: Api, leased_task: LeasedTask) -> None:
    lease = leased_task()
    first = api.post(f"/tasks/{lease.task_id}/cancel")
    again = api.post(f"/tasks/{lease.task_id}/cancel")

    assert again.status == 202
    assert again.json()["cancel_requested_at"] == first.json()["cancel_requested_at"]


@pytest.mark.parametrize(("outcome", "status"), [(Cancelled(), "cancelled"), (Succeeded(), "completed")])
def test_a_task_asked_to_stop_ends_as_it_really_did(
    api: Api, leased_task: LeasedTask, outcome: Cancelled | Succeeded, status: str
) -> None:
    lease = leased_task()
    api.post(f"/tasks/{lease.task_id}/cancel")
    lifecycle.settle([(lease, outcome)], now=timezone.now())

    assert api.task(lease.task_id)["status"] == status


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_a_finished_task_cannot_be_cancelled_and_stays_as_it_is(
    api: Api, make_task: MakeTask, status: Status
) -> None:
    task = make_task(status)
    before = api.task(task.pk)

    problem = api.post(f"/tasks/{task.pk}/cancel").problem(409, "conflict-state")

    assert status in problem["detail"]
    assert api.task(task.pk) == before


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_a_finished_task_can_be_retried_with_a_new_budget(
    api: Api, make_task: MakeTask, status: Status
) -> None:
    task = make_task(status, attempt=5, max_attempts=5, queue="retried")

    answer = api.post(f"/tasks/{task.pk}/retry")

    shown = answer.json()
    assert (answer.status, shown["id"], shown["status"]) == (200, str(task.pk), "pending")
    assert (shown["attempt"], shown["finished_at"], shown["pending_reason"]["code"]) == (5, None, "ready")
    [lease] = lifecycle.claim(claimant("retried"), limit=1, now=timezone.now())
    assert (lease.task_id, lease.attempt, lease.attempts_left) == (task.pk, 6, 4)


@pytest.mark.parametrize("status", LIVE)
def test_a_live_task_cannot_be_retried(api: Api, make_task: MakeTask, status: Status) -> None:
    task = make_task(status)
    before = Task.objects.values().get(pk=task.pk)

    problem = api.post(f"/tasks/{task.pk}/retry").problem(409, "conflict-state")

    assert status in problem["detail"]
    assert Task.objects.values().get(pk=task.pk) == before


def test_a_task_cancelled_and_retried_is_as_new(api: Api) -> None:
    made = api.create(title="a")
    api.post(f"/tasks/{made['id']}/cancel")

    shown = api.post(f"/tasks/{made['id']}/retry").json()

    assert (shown["status"], shown["cancel_requested_at"], shown["finished_at"]) == ("pending", None, None)


@pytest.mark.parametrize("verb", ["cancel", "retry"])
@pytest.mark.parametrize("task_id", ["x", "01a20bcf-958e-766c-8076-373a84ef31ff"])
def test_what_does_not_exist_cannot_be_steered(api: Api, verb: str, task_id: str) -> None:
    assert api.post(f"/tasks/{task_id}/{verb}").problem(404, "not-found")["detail"] == "task not found"


@pytest.mark.parametrize("verb", ["cancel", "retry"])
@pytest.mark.parametrize("body", [b"", b"{}", b" \n{ } "])
def test_nothing_needs_to_be_said(api: Api, make_task: MakeTask, verb: str, body: bytes) -> None:
    task = make_task(Status.PENDING if verb == "cancel" else Status.FAILED)

    assert api.ask("POST", f"/tasks/{task.pk}/{verb}", body).status == 200


@pytest.mark.parametrize("verb", ["cancel", "retry"])
@pytest.mark.parametrize(
    ("body", "slug"),
    [(b'{"reason":"x"}', "invalid-field"), (b"[]", "invalid-json"), (b"a=1", "invalid-json")],
)
def test_what_is_said_and_not_understood_is_refused_and_nothing_moves(
    api: Api, make_task: MakeTask, verb: str, body: bytes, slug: str
) -> None:
    task = make_task(Status.PENDING if verb == "cancel" else Status.FAILED)

    api.ask("POST", f"/tasks/{task.pk}/{verb}", body).problem(400, slug)

    assert Task.objects.get(pk=task.pk).status == task.status
