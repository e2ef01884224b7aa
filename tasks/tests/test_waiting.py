"""What happens to pending tasks by themselves."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from tasks import lifecycle
from tasks.models import Queue, Task
from tasks.states import Status, WaitingFor
from tasks.tests.rows import HANDLER, MakeTask, claimant

HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)
TIMED = {"ready_at": None, "waiting_for": WaitingFor.TIME}
PARKED = {"ready_at": None, "waiting_for": WaitingFor.HANDLER}

# --- expire


@pytest.mark.parametrize(
    "columns", [{}, {**TIMED, "run_at": timezone.now()}, PARKED], ids=["ready", "timed", "parked"]
)
def test_a_pending_task_fails_when_its_time_is_over(make_task: MakeTask, columns: dict[str, object]) -> None:
    now = timezone.now()
    task = make_task(expires_at=now, **columns)

    assert lifecycle.expire(now=now - TICK) == 0
    assert lifecycle.expire(now=now) == 1

    task.refresh_from_db()
    assert (task.status, task.finished_at, task.waiting_for) == (Status.FAILED, now, None)
    assert task.error is not None
    assert task.error["type"] == "tasks.errors.TaskExpired"
    assert task.attempt == 0


@pytest.mark.parametrize("status", [status for status in Status if status != Status.PENDING])
def test_what_began_in_time_may_end_later(make_task: MakeTask, status: Status) -> None:
    make_task(status, expires_at=timezone.now() - HOUR)

    assert lifecycle.expire(now=timezone.now()) == 0


def test_what_never_expires_does_not(make_task: MakeTask) -> None:
    make_task()

    assert lifecycle.expire(now=timezone.now() + 1000 * HOUR) == 0


def test_expiring_goes_a_page_at_a_time(make_task: MakeTask) -> None:
    for _ in range(3):
        make_task(expires_at=timezone.now())

    assert [lifecycle.expire(now=timezone.now(), limit=2) for _ in range(3)] == [2, 1, 0]


# --- park and unpark


def test_what_no_live_worker_knows_is_set_aside(make_task: MakeTask) -> None:
    stranger, known = make_task(handler="no.such.handler"), make_task()

    assert lifecycle.park([HANDLER]) == 1

    stranger.refresh_from_db()
    known.refresh_from_db()
    assert (stranger.status, stranger.ready_at, stranger.waiting_for) == (
        Status.PENDING,
        None,
        WaitingFor.HANDLER,
    )
    assert known.ready_at is not None
    assert lifecycle.park([HANDLER]) == 0


def test_only_what_is_ready_is_set_aside(make_task: MakeTask) -> None:
    for status in (status for status in Status if status != Status.PENDING):
        make_task(status, handler="no.such.handler")
    make_task(handler="no.such.handler", run_at=timezone.now(), **TIMED)

    assert lifecycle.park([HANDLER]) == 0


def test_the_head_of_each_queue_is_looked_at(make_task: MakeTask) -> None:
    for queue in ("a", "b"):
        for _ in range(3):
            make_task(handler="no.such.handler", queue=queue, priority=1)
        make_task(queue=queue)

    assert [lifecycle.park([HANDLER], limit=2) for _ in range(3)] == [4, 2, 0]
    assert len(lifecycle.claim(claimant(), limit=10, now=timezone.now())) == 2


def test_a_paused_queue_is_left_as_it_is(make_task: MakeTask) -> None:
    Queue.objects.create(name="held", paused_at=timezone.now())
    make_task(handler="no.such.handler", queue="held")

    assert lifecycle.park([HANDLER]) == 0


def test_a_worker_that_knows_the_handler_sets_it_free(make_task: MakeTask) -> None:
    mine, other = make_task(handler="mine", **PARKED), make_task(handler="other", **PARKED)
    now = timezone.now()

    assert lifecycle.unpark(["mine", HANDLER], now=now) == 1

    mine.refresh_from_db()
    other.refresh_from_db()
    assert (mine.ready_at, mine.waiting_for) == (now, None)
    assert other.waiting_for == WaitingFor.HANDLER
    assert lifecycle.unpark(["mine"], now=now) == 0


def test_setting_free_goes_a_page_at_a_time(make_task: MakeTask) -> None:
    for _ in range(3):
        make_task(handler="mine", **PARKED)

    assert [lifecycle.unpark(["mine"], now=timezone.now(), limit=2) for _ in range(3)] == [2, 1, 0]


def test_a_task_that_waits_for_time_is_not_set_free_early(make_task: MakeTask) -> None:
    make_task(handler="mine", run_at=timezone.now() + HOUR, **TIMED)

    assert lifecycle.unpark(["mine"], now=timezone.now()) == 0
    assert Task.objects.get().waiting_for == WaitingFor.TIME
