"""Holding back queues: the verbs ``pause`` and ``resume``."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from tasks import bell, lifecycle, stats
from tasks.models import Queue
from tasks.states import Status
from tasks.tests.rows import MakeTask, claimant

pytestmark = pytest.mark.django_db


def paused() -> set[str]:
    return set(Queue.objects.filter(paused_at__isnull=False).values_list("name", flat=True))


def test_pause_counts_the_queues_that_were_not_paused_before() -> None:
    assert lifecycle.pause(["mail", "mail", "images"]) == 2
    assert lifecycle.pause(["mail", "reports"]) == 1
    assert paused() == {"mail", "images", "reports"}


def test_pausing_again_does_not_move_the_time() -> None:
    lifecycle.pause(["mail"])
    since = Queue.objects.get().paused_at

    lifecycle.pause(["mail"])

    assert Queue.objects.get().paused_at == since


def test_resume_counts_the_queues_that_were_paused() -> None:
    lifecycle.pause(["mail", "images"])

    assert lifecycle.resume(["mail", "never-heard-of"]) == 1
    assert lifecycle.resume(["mail"]) == 0
    assert paused() == {"images"}


@pytest.mark.parametrize("queues", [(), ("mail", "images")])
def test_nothing_is_claimed_from_a_paused_queue(make_task: MakeTask, queues: tuple[str, ...]) -> None:
    make_task(queue="mail")
    image = make_task(queue="images")
    lifecycle.pause(["mail"])

    leases = lifecycle.claim(claimant(*queues), limit=5, now=timezone.now())

    assert [lease.task_id for lease in leases] == [image.pk]


def test_what_runs_goes_on_while_its_queue_is_paused(make_task: MakeTask) -> None:
    task = make_task(status=Status.PROCESSING, queue="mail")

    lifecycle.pause(["mail"])

    task.refresh_from_db()
    assert (task.status, task.cancel_requested_at) == (Status.PROCESSING, None)


def test_resume_rings_once_it_is_committed(django_capture_on_commit_callbacks: Any) -> None:
    lifecycle.pause(["mail"])

    with django_capture_on_commit_callbacks() as done:
        lifecycle.resume(["mail"])

    assert [one for one in done if one.func is bell.ring] == done[:1]
    assert len(done) == 2  # the other one writes it into the log


def test_the_log_names_what_was_moved_and_nothing_else(
    caplog: pytest.LogCaptureFixture, django_capture_on_commit_callbacks: Any
) -> None:
    caplog.set_level("INFO")
    lifecycle.pause(["mail"], by="ann")

    with django_capture_on_commit_callbacks(execute=True):
        lifecycle.pause(["mail", "news"], by="bob")
        lifecycle.resume(["news", "nobody"], by="bob")
        lifecycle.pause(["mail"], by="bob")

    told = [line.__dict__["fields"] for line in caplog.records if line.name == "tasks.lifecycle.queues"]
    assert told[-2:] == [{"queues": "news", "moved": 1, "by": "bob"}] * 2
    assert "bob" not in {line["by"] for line in told[:-2]}


# -- what stats tell of queues and tasks


def test_a_queue_is_in_use_by_its_row_its_ready_tasks_or_a_handler(make_task: MakeTask) -> None:
    lifecycle.pause(["configured"])
    make_task(queue="ready")
    make_task(queue="finished", status=Status.COMPLETED)

    names = stats.queues_in_use()

    assert {"configured", "ready", "default"} <= set(names)
    assert "finished" not in names
    assert names == sorted(names)


def test_statuses_are_counted_where_an_index_can_tell(make_task: MakeTask) -> None:
    for status in Status:
        make_task(status=status)
    make_task(ready_at=None, waiting_for="time", run_at=timezone.now())
    make_task(ready_at=None, waiting_for="handler")

    counts = {status.value: stats.count(status) for status in Status}

    assert counts == {"pending": 3, "processing": 1, "completed": None, "failed": 1, "cancelled": 1}


def test_live_ids_are_all_or_none(make_task: MakeTask) -> None:
    ids = {make_task().pk for _ in range(3)}

    assert set(stats.live_ids(Status.PENDING, limit=3) or []) == ids
    assert stats.live_ids(Status.PENDING, limit=2) is None
    assert stats.live_ids(Status.PROCESSING, limit=2) == []
