"""Cancel and retry over HTTP: the answer tells the truth about what happened."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import pytest
from django.conf import settings
from django.test import override_settings
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import Cancelled, ErrorReport, Failed, Succeeded
from tasks.models import Task
from tasks.states import FINISHED, Status
from tasks.tests.api_client import Api, api
from tasks.tests.rows import LeasedTask, MakeTask, claimant

__all__ = ["api"]

LATER = "2999-01-12T01:37:19.000000Z"
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


@pytest.mark.parametrize(
    ("outcome", "status", "shown"), [(Cancelled(), 200, "cancelled"), (Succeeded(), 202, "completed")]
)
def test_only_what_is_cancelled_by_the_time_of_the_answer_is_said_to_be(
    api: Api,
    leased_task: LeasedTask,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Cancelled | Succeeded,
    status: int,
    shown: str,
) -> None:
    lease, cancel = leased_task(), lifecycle.cancel

    def cancel_and_end(ids: list[UUID], *, reason: str | None) -> lifecycle.Cancellation:
        asked = cancel(ids, reason=reason)
        lifecycle.settle([(lease, outcome)], now=timezone.now())
        return asked

    monkeypatch.setattr(lifecycle, "cancel", cancel_and_end)

    answer = api.post(f"/tasks/{lease.task_id}/cancel")

    assert (answer.status, answer.json()["status"]) == (status, shown)


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


@pytest.mark.usefixtures("live_worker")
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
    [(b'{"why":"x"}', "invalid-field"), (b"[]", "invalid-json"), (b"a=1", "invalid-json")],
)
def test_what_is_said_and_not_understood_is_refused_and_nothing_moves(
    api: Api, make_task: MakeTask, verb: str, body: bytes, slug: str
) -> None:
    task = make_task(Status.PENDING if verb == "cancel" else Status.FAILED)

    api.ask("POST", f"/tasks/{task.pk}/{verb}", body).problem(400, slug)

    assert Task.objects.get(pk=task.pk).status == task.status


# -- why a task is cancelled


def test_a_pending_task_says_why_it_was_cancelled(api: Api) -> None:
    made = api.create(title="a")

    shown = api.post(f"/tasks/{made['id']}/cancel", {"reason": "ordered twice"}).json()

    assert shown["cancel_reason"] == "ordered twice"
    assert shown["error"]["message"] == "Cancelled while it was pending: ordered twice"
    assert api.task(made["id"]) == shown


def test_a_running_task_says_why_it_was_stopped_in_its_attempt_too(api: Api, leased_task: LeasedTask) -> None:
    lease = leased_task()
    answer = api.post(f"/tasks/{lease.task_id}/cancel", {"reason": "ordered twice"})
    assert (answer.status, answer.json()["cancel_reason"]) == (202, "ordered twice")

    lifecycle.settle([(lease, Cancelled("where it was"))], now=timezone.now())

    assert api.task(lease.task_id)["error"]["message"] == "Cancelled while it ran: ordered twice"
    [attempt] = api.get(f"/tasks/{lease.task_id}/attempts").json()["items"]
    assert attempt["error"]["message"] == "Cancelled while it ran: ordered twice"
    assert attempt["error"]["traceback"] == "where it was"


def test_a_failure_of_its_own_keeps_its_own_words(api: Api, leased_task: LeasedTask) -> None:
    lease = leased_task()
    api.post(f"/tasks/{lease.task_id}/cancel", {"reason": "ordered twice"})

    lifecycle.settle([(lease, Failed(ErrorReport("x.E", "no")))], now=timezone.now())

    shown = api.task(lease.task_id)
    assert (shown["status"], shown["error"]["message"]) == ("cancelled", "no")
    assert shown["cancel_reason"] == "ordered twice"


def test_the_first_reason_counts_and_a_retry_forgets_it(api: Api, leased_task: LeasedTask) -> None:
    lease = leased_task()
    for reason in ("first", "second"):
        shown = api.post(f"/tasks/{lease.task_id}/cancel", {"reason": reason}).json()
    assert shown["cancel_reason"] == "first"

    lifecycle.settle([(lease, Cancelled())], now=timezone.now())

    assert api.post(f"/tasks/{lease.task_id}/retry").json()["cancel_reason"] is None


@pytest.mark.parametrize("reason", ["", " ", "x" * 1001, 5, None, ["x"]])
def test_a_reason_is_a_short_text(api: Api, reason: object) -> None:
    made = api.create()

    problem = api.post(f"/tasks/{made['id']}/cancel", {"reason": reason}).problem(400, "invalid-field")

    assert [error["pointer"] for error in problem["errors"]] == ["/reason"]
    assert api.task(made["id"]) == made


# -- how a task is retried


def test_a_task_is_retried_later_with_another_payload(api: Api, make_task: MakeTask) -> None:
    task = make_task(Status.FAILED, queue="retried", payload={"a": 1})

    shown = api.post(f"/tasks/{task.pk}/retry", {"run_at": LATER, "payload": {"b": 2}}).json()

    assert (shown["run_at"], shown["payload"]) == (LATER, {"b": 2})
    assert (shown["pending_reason"]["code"], shown["pending_reason"]["until"]) == ("scheduled", LATER)
    assert lifecycle.claim(claimant("retried"), limit=1, now=timezone.now()) == []
    assert lifecycle.claim(claimant("retried"), limit=1, now=datetime.fromisoformat(LATER)) != []


def test_null_is_as_if_it_was_not_said(api: Api, make_task: MakeTask) -> None:
    task = make_task(Status.FAILED, payload={"a": 1})

    shown = api.post(f"/tasks/{task.pk}/retry", {"run_at": None, "payload": None}).json()

    assert (shown["run_at"], shown["payload"], shown["status"]) == (None, {"a": 1}, "pending")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"run_at": "soon"}, "/run_at"), ({"payload": []}, "/payload"), ({"queue": "x"}, "/queue")],
)
def test_a_wrong_wish_for_a_retry_is_told_and_moves_nothing(
    api: Api, make_task: MakeTask, body: object, pointer: str
) -> None:
    task = make_task(Status.FAILED)

    problem = api.post(f"/tasks/{task.pk}/retry", body).problem(400, "invalid-field")

    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert Task.objects.get(pk=task.pk).status == "failed"


def test_a_retry_stores_no_more_than_a_request_that_makes_a_task(api: Api, make_task: MakeTask) -> None:
    task = make_task(Status.FAILED)
    with override_settings(TASKSERVICE={**settings.TASKSERVICE, "max_payload_bytes": 1024}):
        answer = api.post(f"/tasks/{task.pk}/retry", {"payload": {"text": "x" * 1024}})

    answer.problem(413, "too-large")
    assert Task.objects.get(pk=task.pk).status == "failed"
