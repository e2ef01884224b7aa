"""The numbers of each queue: right, capped, and by indexes alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from tasks import depths as module
from tasks.depths import Depth, depths
from tasks.states import Status, WaitingFor
from tasks.tests.rows import MakeTask
from tasks.tests.test_indexes import assert_only, plans_of

pytestmark = pytest.mark.django_db


def test_each_task_is_counted_in_its_queue_and_where_it_stands(make_task: MakeTask) -> None:
    soon = timezone.now() + timedelta(hours=1)
    for queue, times in (("mail", 1), ("images", 2)):
        for _ in range(times):
            make_task(queue=queue)
            make_task(queue=queue, ready_at=None, waiting_for=WaitingFor.TIME, run_at=soon)
            make_task(queue=queue, ready_at=None, waiting_for=WaitingFor.HANDLER)
            for status in (Status.PROCESSING, Status.FAILED, Status.COMPLETED, Status.CANCELLED):
                make_task(status, queue=queue)

    found = depths(["images", "mail", "none"])

    numbers = {queue: (it.ready, it.waiting, it.failed, it.processing) for queue, it in found.items()}
    assert numbers == {"mail": (1, 2, 1, 1), "images": (2, 4, 2, 2), "none": (0, 0, 0, 0)}


def test_the_oldest_ready_task_is_found_below_any_priority(make_task: MakeTask) -> None:
    now = timezone.now()
    for priority, minutes in ((50, 1), (0, 9), (-7, 4)):
        make_task(queue="mail", priority=priority, ready_at=now - timedelta(minutes=minutes))
    make_task(queue="mail", ready_at=None, waiting_for=WaitingFor.HANDLER)

    found = depths(["mail", "none"])

    assert found["mail"].oldest_ready_at == now - timedelta(minutes=9)
    assert found["none"].oldest_ready_at is None


def test_counting_ends_somewhere_and_sooner_where_queues_are_many(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COUNTED", 3)
    monkeypatch.setattr(module, "COUNTED_OF_MANY", 1)
    monkeypatch.setattr(module, "COUNTED_IN_ALL", 10)
    for _ in range(5):
        make_task(queue="mail")

    few, many = (depths(["mail", *map(str, range(others))])["mail"].ready for others in (0, 20))

    assert (few, many) == (4, 2)  # one more stands for "or more"


@pytest.mark.parametrize(
    ("queues", "limit"), [(0, 10_000), (1, 10_000), (4, 10_000), (5, 8_000), (8, 5_000), (100, 1_000)]
)
def test_all_queues_together_are_counted_so_far_and_each_to_full_thousands(queues: int, limit: int) -> None:
    assert module.limit_for(["mail"] * queues) == limit


def test_no_queue_is_no_question() -> None:
    assert depths([]) == {}
    assert Depth().oldest_ready_at is None


def test_depths_are_read_by_index(make_task: MakeTask) -> None:
    make_task(queue="mail")
    make_task(Status.FAILED, queue="mail")

    plans = plans_of(lambda: depths(["mail", "images"]))

    assert_only(plans, "task_ready_idx", "task_waiting_queue_idx", "task_failed_queue_idx", "task_lease_idx")
