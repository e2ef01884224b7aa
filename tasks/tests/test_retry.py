"""A retry by hand: the same task, a new budget, its history kept."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import ErrorReport, Failed, Succeeded
from tasks.models import Attempt, Task
from tasks.states import FINISHED, Status
from tasks.tests.rows import HANDLER, LeasedTask, MakeTask, claimant, columns_for

HOUR = timedelta(hours=1)
BOOM = ErrorReport("builtins.ValueError", "boom")


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_what_has_finished_is_ready_again(make_task: MakeTask, status: Status) -> None:
    task = make_task(
        status,
        attempt=5,
        attempts_before=2,
        fence=9,
        crashes=3,
        releases=4,
        result={"a": 1},
        error={"type": "E"},
        cancel_requested_at=timezone.now(),
        expires_at=timezone.now() - HOUR,
        run_at=timezone.now() + HOUR,
        started_at=timezone.now() - HOUR,
    )
    started_at = task.started_at

    assert lifecycle.retry([task.pk]) == 1

    task.refresh_from_db()
    assert (task.status, task.waiting_for, task.finished_at) == (Status.PENDING, None, None)
    assert (task.attempt, task.attempts_before, task.fence) == (5, 5, 9)
    assert (task.crashes, task.releases, task.result) == (0, 0, None)
    assert (task.cancel_requested_at, task.expires_at) == (None, None)
    assert task.started_at == started_at
    [lease] = lifecycle.claim(claimant(), limit=1, now=timezone.now())
    assert (lease.attempts_used, lease.attempts_left, lease.fence) == (1, 4, 10)


@pytest.mark.parametrize("status", [status for status in Status if status not in FINISHED])
def test_what_still_lives_is_left_alone(make_task: MakeTask, status: Status) -> None:
    task = make_task(status, attempt=2)
    before = Task.objects.values().get()

    assert lifecycle.retry([task.pk]) == 0
    assert Task.objects.values().get() == before


def test_the_second_retry_moves_nothing(make_task: MakeTask) -> None:
    task = make_task(Status.FAILED)

    assert [lifecycle.retry([task.pk]), lifecycle.retry([task.pk]), lifecycle.retry([uuid4()])] == [1, 0, 0]


def test_history_goes_on_and_numbers_do_not_begin_anew(leased_task: LeasedTask) -> None:
    lease = leased_task(queue="a", max_attempts=1)
    lifecycle.settle([(lease, Failed(BOOM))], now=timezone.now())
    lifecycle.retry([lease.task_id])
    [again] = lifecycle.claim(claimant("a"), limit=1, now=timezone.now())
    lifecycle.settle([(again, Failed(BOOM))], now=timezone.now())
    lifecycle.retry([lease.task_id])
    [last] = lifecycle.claim(claimant("a"), limit=1, now=timezone.now())
    lifecycle.settle([(last, Succeeded("3"))], now=timezone.now())

    task = Task.objects.get()
    assert (task.status, task.attempt, task.result) == (Status.COMPLETED, 3, 3)
    assert [(attempt.number, attempt.fence) for attempt in Attempt.objects.all()] == [(1, 1), (2, 2)]


def test_the_last_error_stays_until_another_attempt_ended(leased_task: LeasedTask) -> None:
    lease = leased_task(max_attempts=1)
    lifecycle.settle([(lease, Failed(BOOM))], now=timezone.now())

    lifecycle.retry([lease.task_id])

    error = Task.objects.get().error
    assert error is not None
    assert error["message"] == "boom"


def test_many_at_once_are_counted_truly(make_task: MakeTask) -> None:
    given = {"handler": HANDLER, "created_at": timezone.now(), **columns_for(Status.FAILED)}
    failed = Task.objects.bulk_create(Task(status=Status.FAILED, **given) for _ in range(600))
    pending = make_task()

    moved = lifecycle.retry([*(task.pk for task in failed), pending.pk, uuid4(), failed[0].pk])

    assert moved == 600
