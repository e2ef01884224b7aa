"""Failures in groups: each attempt that failed is counted once, by what has failed in the same way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from threading import Barrier, Thread
from typing import Any
from uuid import uuid4

import pytest
from django.db import DatabaseError, connections, transaction
from django.utils import timezone

from tasks import failures, lifecycle, totals
from tasks.contract import Cancelled, Crashed, ErrorReport, Failed, Lapsed, Lease, Outcome, TimedOut
from tasks.failures import Sightings
from tasks.lifecycle import Settlement
from tasks.models import Attempt, Failure, Task
from tasks.models.task import database
from tasks.states import Status
from tasks.tests.rows import LeasedTask, MakeTask
from tasks.tests.test_indexes import assert_only, plans_of
from tasks.tests.workers import RunWorkers, enqueue, run_workers, wait_finished
from tasks.worker.duties import Duties
from tasks.worker.report import Report

__all__ = ["run_workers"]  # a fixture

pytestmark = pytest.mark.django_db

PAY = ErrorReport("shop.Refused", "card 1", "Traceback …", "shop.billing.pay")
SEND = ErrorReport("builtins.ValueError", "no such customer", "Traceback …", "shop.mail.send")


def settled(lease: Lease, outcome: Outcome) -> Settlement:
    settlement = lifecycle.settle([(lease, outcome)], now=timezone.now())
    assert settlement.written
    return settlement


def seen(*settlements: Settlement, most: int = failures.MOST) -> Sightings:
    sightings = Sightings(most=most)
    for settlement in settlements:
        sightings.add(settlement.written)
    return sightings


def group(error: ErrorReport = PAY, handler: str = "demo.echo") -> Failure:
    return Failure.objects.get(handler=handler, error_type=error.type, frame=error.frame)


# -- the column


@pytest.mark.parametrize("retryable", [True, False])
def test_an_attempt_and_its_task_have_the_fingerprint_of_its_failure(
    leased_task: LeasedTask, retryable: bool
) -> None:
    first, second, other = leased_task(), leased_task(), leased_task()
    for lease, error in ((first, PAY), (second, PAY), (other, SEND)):
        settled(lease, Failed(error, retryable=retryable))

    marks = {lease: Task.objects.get(pk=lease.task_id).fingerprint for lease in (first, second, other)}
    of_attempts = {lease: Attempt.objects.get(task=lease.task_id).fingerprint for lease in marks}

    assert marks == of_attempts
    assert marks[first] == marks[second] != marks[other]
    assert all(marks.values())


@pytest.mark.parametrize(
    "outcome",
    [Failed(PAY), Crashed("SIGSEGV"), TimedOut(timedelta(seconds=1), "", "shop.billing.pay"), Lapsed()],
)
def test_however_an_attempt_fails_it_is_in_a_group(leased_task: LeasedTask, outcome: Outcome) -> None:
    lease = leased_task()

    failures.write_down(seen(settled(lease, outcome)))

    [found] = Failure.objects.all()
    assert found.fingerprint == Task.objects.get(pk=lease.task_id).fingerprint
    assert found.frame == ("shop.billing.pay" if isinstance(outcome, Failed | TimedOut) else "")


def test_what_somebody_cancelled_has_not_failed(leased_task: LeasedTask) -> None:
    lease = leased_task()

    failures.write_down(seen(settled(lease, Cancelled())))

    assert not Failure.objects.exists()
    assert Task.objects.get(pk=lease.task_id).fingerprint is None


# -- the groups


def test_a_group_has_a_count_two_times_and_the_latest_sample(leased_task: LeasedTask) -> None:
    leases = [leased_task() for _ in range(3)]
    latest = Failed(ErrorReport(PAY.type, "card 3", "Traceback: the latest", PAY.frame))
    failures.write_down(seen(settled(leases[0], Failed(PAY)), settled(leases[1], Failed(PAY))))
    first = group()

    failures.write_down(seen(settled(leases[2], latest)))

    found = group()
    assert (first.count, found.count) == (2, 3)
    assert (found.message, found.traceback) == ("card 3", "Traceback: the latest")
    assert found.task_id == leases[2].task_id
    assert found.first_seen_at == first.first_seen_at < first.last_seen_at < found.last_seen_at


def test_messages_make_no_groups(leased_task: LeasedTask) -> None:
    for number in range(3):
        error = ErrorReport(PAY.type, f"card {number}", f"Traceback {number}", PAY.frame)
        failures.write_down(seen(settled(leased_task(), Failed(error))))

    assert group().count == 3


def test_a_worker_counts_what_it_settles_and_writes_it_with_the_totals(
    leased_task: LeasedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "here", Sightings())
    monkeypatch.setattr(failures.write_down, "__defaults__", (failures.here,))

    Report().settled(settled(leased_task(), Failed(PAY)))
    totals.write_down()

    assert group().count == 1


def test_what_could_not_be_written_down_is_kept(
    leased_task: LeasedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = seen(settled(leased_task(), Failed(PAY)))
    with monkeypatch.context() as broken:
        broken.setattr(failures, "transaction", None)
        with pytest.raises(AttributeError):
            failures.write_down(mine)
    mine.add(settled(leased_task(), Failed(PAY)).written)

    failures.write_down(mine)

    assert group().count == 2


def test_errors_that_are_made_up_anew_each_time_do_not_fill_the_memory(leased_task: LeasedTask) -> None:
    made_up = [ErrorReport(f"shop.E{number}", "", "", "") for number in range(5)]

    mine = seen(*(settled(leased_task(), Failed(error)) for error in [*made_up, made_up[0]]), most=3)
    failures.write_down(mine)

    assert dict(Failure.objects.values_list("error_type", "count")) == {
        "shop.E0": 2, "shop.E1": 1, "shop.E2": 1
    }  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_several_processes_add_to_the_same_groups(leased_task: LeasedTask) -> None:
    ended = [settled(leased_task(), Failed(error)) for error in (PAY, SEND)]
    together = Barrier(4)
    errors: list[Exception] = []

    def process(turn: list[Settlement]) -> None:
        try:
            together.wait(timeout=30)
            for _ in range(5):
                failures.write_down(seen(*turn))
        except (DatabaseError, RuntimeError) as error:
            errors.append(error)
        finally:
            connections[database()].close()

    threads = [Thread(target=process, args=(ended[::way],)) for way in (1, -1, 1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert {found.count for found in Failure.objects.all()} == {20}


@pytest.mark.django_db(transaction=True)
def test_a_worker_tells_of_what_failed_in_its_executors(run_workers: RunWorkers) -> None:
    made = [
        enqueue("fault.error", payload={"message": f"no {number}"}, max_attempts=1) for number in range(2)
    ]
    made += [enqueue("demo.fail", max_attempts=1), enqueue("fault.segfault", max_attempts=1)]
    made += [
        enqueue("fault.short", payload={"seconds": 60}, max_attempts=1, timeout=timedelta(seconds=1)),
        enqueue("fault.sleep_async", payload={"seconds": "x"}, max_attempts=1),
    ]
    worker = run_workers("--n", "2")
    for task_id in made:
        wait_finished(task_id)
    worker.stop()

    groups = {found.handler: (found.error_type, found.frame, found.count) for found in Failure.objects.all()}
    assert groups == {
        "fault.error": ("builtins.ValueError", "tasks.tests.faults.tasks.error", 2),
        "demo.fail": ("builtins.RuntimeError", "tasks.handlers.fail", 1),
        "fault.segfault": ("tasks.errors.TaskCrashed", "", 1),
        "fault.short": ("tasks.errors.TaskTimedOut", "tasks.tests.faults.tasks.short", 1),
        "fault.sleep_async": ("builtins.TypeError", "tasks.tests.faults.tasks.sleep_async", 1),
    }
    by_handler = {found.handler: found.fingerprint for found in Failure.objects.all()}
    for task in Task.objects.all():
        assert task.fingerprint == by_handler[task.handler]


# -- what has failed, and how long it is kept


def make_failure(**columns: Any) -> Failure:
    now = timezone.now()
    given = {
        "fingerprint": uuid4().hex[:16], "handler": "demo.echo", "error_type": "E", "task_id": uuid4(),
        "count": 1, "first_seen_at": now, "last_seen_at": now,
    }  # fmt: skip
    return Failure.objects.create(**{**given, **columns})


def test_the_failed_tasks_of_a_group_are_found_by_an_index(make_task: MakeTask) -> None:
    mine = [make_task(Status.FAILED, fingerprint="mine") for _ in range(3)]
    for status, mark in ((Status.FAILED, "other"), (Status.FAILED, None), (Status.COMPLETED, "mine")):
        make_task(status, fingerprint=mark)
    found: list[Any] = []

    def ask() -> None:
        found.append(list(failures.failed_by("mine")[:2]))
        found.append(list(failures.failed_by("mine").filter(pk__lt=mine[1].pk)[:2]))
        found.append(failures.still_failed("mine", most=2))

    plans = plans_of(ask)

    assert found == [mine[:0:-1], mine[:1], 3]
    assert_only(plans, "task_failure_idx")


@pytest.mark.parametrize(("days", "kept"), [(29, True), (31, False)])
def test_a_group_is_forgotten_with_the_tasks_that_failed_so(
    days: int, kept: bool, duties_of: Callable[[], Duties]
) -> None:
    make_failure(last_seen_at=timezone.now() - timedelta(days=days))

    assert duties_of().forget_failures([]) is False

    assert Failure.objects.exists() is kept


def test_where_failed_tasks_are_kept_for_ever_groups_are_too(
    duties_of: Callable[[], Duties], settings: Any
) -> None:
    settings.TASKSERVICE = {**settings.TASKSERVICE, "keep_failed": None}
    make_failure(last_seen_at=timezone.now() - timedelta(days=4000))

    duties_of().forget_failures([])

    assert Failure.objects.exists()


def test_many_groups_are_forgotten_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "ROWS_AT_ONCE", 2)
    old = timezone.now() - timedelta(days=60)
    for _ in range(3):
        make_failure(last_seen_at=old)

    more = [failures.forget(before=timezone.now() - timedelta(days=30)) for _ in range(2)]

    assert more == [True, False]
    assert not Failure.objects.exists()


@pytest.mark.postgres  # SQLite has one writer at a time
@pytest.mark.django_db(transaction=True)
def test_a_group_that_somebody_adds_to_is_not_waited_for() -> None:
    """Each would wait for what the other has locked."""
    old = timezone.now() - timedelta(days=60)
    added_to, other = make_failure(last_seen_at=old), make_failure(last_seen_at=old)
    took: list[bool] = []

    def forget() -> None:
        took.append(failures.forget(before=timezone.now() - timedelta(days=30)))
        connections[database()].close()

    forgetting = Thread(target=forget)
    with transaction.atomic(using=database()):
        Failure.objects.filter(pk=added_to.pk).update(last_seen_at=timezone.now())
        forgetting.start()
        forgetting.join(10)
        left = set(Failure.objects.values_list("pk", flat=True))
        waited = forgetting.is_alive()
    forgetting.join(10)

    assert not waited
    assert left == {added_to.pk}
    assert other.pk not in left


@pytest.fixture
def duties_of(db: None) -> Callable[[], Duties]:
    from tasks.models import Worker
    from tasks.tests.rows import claimant

    return lambda: Duties(claimant(), Worker(id="host:1:worker", host="here", pid=1), None)
