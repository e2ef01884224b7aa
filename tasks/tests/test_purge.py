"""Purging a queue: its pending tasks are cancelled, in batches, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models import Task
from tasks.tests.rows import MakeTask
from tasks.tests.test_indexes import KEY, assert_only, plans_of

pytestmark = pytest.mark.django_db(transaction=True)


def test_purge_cancels_what_is_pending_and_no_more(make_task: MakeTask) -> None:
    before = timezone.now()
    old = before - timedelta(minutes=1)
    waiting: dict[str, object] = {"ready_at": None, "waiting_for": "time", "run_at": before}
    gone = [make_task(queue="mail", created_at=old), make_task(queue="mail", created_at=old, **waiting)]
    kept = [
        make_task(queue="mail", created_at=before + timedelta(seconds=1)),
        make_task("processing", queue="mail", created_at=old),
        make_task("failed", queue="mail", created_at=old),
        make_task(queue="other", created_at=old),
    ]
    unchanged = _rows(kept)

    moved = lifecycle.purge("mail", before=before, reason="no longer wanted")

    assert moved == 2
    assert _rows(kept) == unchanged
    assert {task.status for task in Task.objects.filter(pk__in=[one.pk for one in gone])} == {"cancelled"}
    assert Task.objects.get(pk=gone[0].pk).cancel_reason == "no longer wanted"
    assert lifecycle.purge("mail", before=before) == 0


def test_purge_goes_by_so_many_at_a_time(make_task: MakeTask) -> None:
    lifecycle.enqueue([TaskSpec(handler="demo.echo", queue="mail")] * 5)

    moved = [lifecycle.purge("mail", before=timezone.now(), limit=2) for _ in range(4)]

    assert moved == [2, 2, 1, 0]


def _rows(tasks: Sequence[Task]) -> list[Any]:
    return list(Task.objects.filter(pk__in=[task.pk for task in tasks]).order_by("pk").values())


def test_purge_finds_its_tasks_by_index(make_task: MakeTask) -> None:
    make_task(queue="mail")

    plans = plans_of(lambda: lifecycle.purge("mail", before=timezone.now()))

    assert_only(plans, "task_ready_idx", "task_waiting_queue_idx", KEY)
