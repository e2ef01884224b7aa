"""The database knows the rules too: what may not be, it refuses by name."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from tasks.models import Attempt, Task
from tasks.models.task import database
from tasks.states import FINISHED, Status, WaitingFor
from tasks.tests.rows import LeasedTask, MakeTask, columns_for

NOW = timezone.now()
UNFINISHED = [status for status in Status if status not in FINISHED]
NOT_PROCESSING = [status for status in Status if status != Status.PROCESSING]
KEYED = {"unique_key": "k", "unique_while": "live", "unique_fence": 0}

IMPOSSIBLE: list[tuple[str, Status, dict[str, Any]]] = [
    ("task_lease_iff_processing", Status.PROCESSING, {"lease_expires_at": None}),
    *(("task_lease_iff_processing", status, {"lease_expires_at": NOW}) for status in NOT_PROCESSING),
    *(("task_finished_at_iff_finished", status, {"finished_at": None}) for status in sorted(FINISHED)),
    *(("task_finished_at_iff_finished", status, {"finished_at": NOW}) for status in UNFINISHED),
    ("task_pending_is_ready_or_waits", Status.PENDING, {"ready_at": None}),
    ("task_pending_is_ready_or_waits", Status.PENDING, {"waiting_for": WaitingFor.TIME, "run_at": NOW}),
    (
        "task_waits_for_time_until_run_at",
        Status.PENDING,
        {"waiting_for": WaitingFor.TIME, "ready_at": None, "run_at": None},
    ),
    *(
        ("task_waits_only_while_pending", status, {"waiting_for": WaitingFor.HANDLER, "ready_at": None})
        for status in Status
        if status != Status.PENDING
    ),
    ("task_unique_while_known", Status.PENDING, {**KEYED, "unique_while": "always"}),
    ("task_unique_while_known", Status.PENDING, {**KEYED, "unique_key": None}),
    ("task_unique_while_known", Status.PENDING, {**KEYED, "unique_fence": None}),
    ("task_unique_ttl_ends", Status.COMPLETED, {**KEYED, "unique_while": "ttl"}),
]


@pytest.mark.parametrize("status", Status)
def test_every_status_can_be(make_task: MakeTask, status: Status) -> None:
    assert make_task(status).status == status


@pytest.mark.parametrize(("name", "status", "columns"), IMPOSSIBLE)
def test_what_cannot_be_is_refused_when_it_is_made(
    make_task: MakeTask, name: str, status: Status, columns: dict[str, Any]
) -> None:
    with pytest.raises(IntegrityError, match=name), transaction.atomic(using=database()):
        make_task(status, **columns)


@pytest.mark.parametrize(("name", "status", "columns"), IMPOSSIBLE)
def test_and_when_it_is_changed(
    make_task: MakeTask, name: str, status: Status, columns: dict[str, Any]
) -> None:
    task = make_task(status)

    with pytest.raises(IntegrityError, match=name), transaction.atomic(using=database()):
        Task.objects.filter(pk=task.pk).update(**columns)


def test_a_status_that_nobody_knows_is_refused(make_task: MakeTask) -> None:
    task = make_task(Status.FAILED)

    with pytest.raises(IntegrityError, match="task_status_known"), transaction.atomic(using=database()):
        Task.objects.filter(pk=task.pk).update(status="lost", finished_at=None)


@pytest.mark.parametrize("column", ["attempt", "attempts_before", "max_attempts", "crashes", "releases"])
def test_no_count_is_negative(make_task: MakeTask, column: str) -> None:
    task = make_task()

    with pytest.raises(IntegrityError), transaction.atomic(using=database()):
        Task.objects.filter(pk=task.pk).update(**{column: -1})


def test_an_attempt_is_recorded_once_for_each_lease(leased_task: LeasedTask) -> None:
    lease = leased_task()
    given = {
        "task_id": lease.task_id,
        "number": 1,
        "fence": lease.fence,
        "outcome": "failed",
        "ended_at": NOW,
    }
    Attempt.objects.create(**given)

    with pytest.raises(IntegrityError), transaction.atomic(using=database()):
        Attempt.objects.create(**given)


HOLDING = [
    ("pending", Status.PENDING, 0),
    *(("live", status, 1) for status in UNFINISHED),
    *(("ttl", status, 1) for status in Status),
]
NOT_HOLDING = [
    *(("pending", status, 0) for status in Status if status != Status.PENDING),
    ("pending", Status.PENDING, 1),  # it was claimed
    *(("live", status, 0) for status in sorted(FINISHED)),
]


@pytest.mark.parametrize(("while_", "status", "fence"), HOLDING)
def test_a_key_that_counts_is_there_once(
    make_task: MakeTask, while_: str, status: Status, fence: int
) -> None:
    keyed = {**KEYED, "unique_while": while_, "unique_until": NOW}
    make_task(status, fence=fence, **keyed)
    make_task(**{**keyed, "unique_key": "other"})
    make_task(**{**keyed, "owner": "other"})

    with pytest.raises(IntegrityError), transaction.atomic(using=database()):
        make_task(**KEYED)


@pytest.mark.parametrize(("while_", "status", "fence"), NOT_HOLDING)
def test_a_key_that_does_not_count_is_free(
    make_task: MakeTask, while_: str, status: Status, fence: int
) -> None:
    make_task(status, fence=fence, **{**KEYED, "unique_while": while_})

    make_task(**KEYED)


def test_every_constraint_is_tried_here() -> None:
    tried = {name for name, _, _ in IMPOSSIBLE} | {"task_status_known", "task_unique_idx"}

    assert {constraint.name for constraint in Task._meta.constraints} == tried


def test_a_row_takes_every_column_the_states_ask_for(make_task: MakeTask) -> None:
    for status in Status:
        task = make_task(status)
        Task.objects.filter(pk=task.pk).update(**columns_for(status))
