"""Cancel tells the truth."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from tasks import lifecycle
from tasks.models import Task
from tasks.states import FINISHED, Status, WaitingFor
from tasks.tests.rows import HANDLER, LeasedTask, MakeTask, claimant

WAITS = [
    {},
    {"ready_at": None, "waiting_for": WaitingFor.TIME, "run_at": timezone.now()},
    {"ready_at": None, "waiting_for": WaitingFor.HANDLER},
]


@pytest.mark.parametrize("columns", WAITS, ids=["ready", "waits for time", "waits for its handler"])
def test_what_is_pending_is_cancelled_and_never_runs(make_task: MakeTask, columns: dict[str, object]) -> None:
    task = make_task(**columns)

    answer = lifecycle.cancel([task.pk])

    task.refresh_from_db()
    assert (answer.cancelled, answer.requested, answer.finished) == ([task.pk], [], {})
    assert (task.status, task.waiting_for) == (Status.CANCELLED, None)
    assert task.finished_at is not None
    assert task.error is not None
    assert task.error["type"] == "tasks.errors.TaskCancelled"
    assert lifecycle.claim(claimant(), limit=1, now=timezone.now() + timedelta(days=1)) == []


def test_what_runs_is_asked_to_stop_and_goes_on_holding_its_lease(leased_task: LeasedTask) -> None:
    lease = leased_task()

    answer = lifecycle.cancel([lease.task_id])

    task = Task.objects.get()
    assert (answer.cancelled, answer.requested, answer.finished) == ([], [lease.task_id], {})
    assert (task.status, task.fence) == (Status.PROCESSING, lease.fence)
    assert task.cancel_requested_at is not None


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_what_has_finished_stays_as_it_is(make_task: MakeTask, status: Status) -> None:
    task = make_task(status)
    before = Task.objects.values().get()

    answer = lifecycle.cancel([task.pk])

    assert (answer.cancelled, answer.requested, answer.finished) == ([], [], {task.pk: status})
    assert Task.objects.values().get() == before


def test_what_does_not_exist_is_in_no_answer(db: None) -> None:
    answer = lifecycle.cancel([uuid4()])

    assert (answer.cancelled, answer.requested, answer.finished) == ([], [], {})


def test_asking_again_changes_nothing(leased_task: LeasedTask, make_task: MakeTask) -> None:
    lease, pending = leased_task(), make_task()
    lifecycle.cancel([lease.task_id, pending.pk])
    before = list(Task.objects.values())

    answer = lifecycle.cancel([lease.task_id, pending.pk])

    assert list(Task.objects.values()) == before
    assert answer.requested == [lease.task_id]
    assert answer.finished == {pending.pk: Status.CANCELLED}


def test_each_task_is_answered_for_once_however_often_it_is_named(db: None) -> None:
    now = timezone.now()
    tasks = Task.objects.bulk_create(Task(handler=HANDLER, created_at=now, ready_at=now) for _ in range(600))
    ids = [task.pk for task in tasks]

    answer = lifecycle.cancel(ids + ids)

    assert sorted(answer.cancelled) == sorted(ids)
    assert (answer.requested, answer.finished) == ([], {})
    assert Task.objects.filter(status=Status.CANCELLED).count() == 600
