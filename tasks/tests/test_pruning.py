"""Finished tasks are not kept for ever: which go, which stay, and what that costs the others."""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypedDict

import pytest
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from bench.filling import fill_table
from tasks import lifecycle
from tasks.conf import config
from tasks.models import Attempt, Task, Worker
from tasks.states import FINISHED, Status
from tasks.tests.rows import MakeTask, claimant
from tasks.tests.test_indexes import assert_only, plans_of
from tasks.tests.workers import RunWorkers, run_workers, wait_until
from tasks.worker.duties import Duties

__all__ = ["run_workers"]

pytestmark = pytest.mark.django_db(transaction=True)

AGES = {Status.COMPLETED: timedelta(days=7), Status.FAILED: timedelta(days=30)}
AGES[Status.CANCELLED] = AGES[Status.FAILED]
SLACK = timedelta(minutes=5)


@pytest.fixture
def duties() -> Duties:
    who = claimant()
    return Duties(who, Worker(id=who.worker_id, host="here", pid=1, executors=3), None)


class Moment(TypedDict):
    before: datetime
    now: datetime


def now() -> Moment:
    return {"before": timezone.now(), "now": timezone.now()}


def finished(make_task: MakeTask, status: Status, age: timedelta) -> Task:
    return make_task(status, finished_at=timezone.now() - age)


def all_of(duties: Duties) -> None:
    while duties.prune([]):
        pass


def left() -> set[Any]:
    return set(Task.objects.values_list("pk", flat=True))


def test_who_keeps_others_from_being_made_after_its_end_is_kept_so_long(make_task: MakeTask) -> None:
    ended = {"finished_at": timezone.now() - timedelta(days=40), "unique_while": "ttl", "unique_fence": 0}
    kept = make_task(
        Status.COMPLETED, unique_key="a", unique_until=timezone.now() + timedelta(days=1), **ended
    )
    make_task(Status.COMPLETED, unique_key="b", unique_until=timezone.now() - timedelta(days=1), **ended)

    assert lifecycle.prune(Status.COMPLETED, **now()) == 1

    assert not lifecycle.any_outlived(Status.COMPLETED, **now())
    assert [task.pk for task in Task.objects.all()] == [kept.pk]


def test_each_status_has_an_age_of_its_own(duties: Duties, make_task: MakeTask) -> None:
    kept = {finished(make_task, status, age - SLACK).pk for status, age in AGES.items()}
    for status, age in AGES.items():
        finished(make_task, status, age + SLACK)

    all_of(duties)

    assert left() == kept


@pytest.mark.parametrize("status", sorted({*Status} - FINISHED))
def test_what_has_not_finished_stays_however_old(duties: Duties, make_task: MakeTask, status: Status) -> None:
    old = make_task(status, created_at=timezone.now() - timedelta(days=900))

    all_of(duties)

    assert left() == {old.pk}


def test_none_keeps_for_ever(duties: Duties, make_task: MakeTask) -> None:
    kept = finished(make_task, Status.FAILED, timedelta(days=900))
    finished(make_task, Status.CANCELLED, timedelta(days=900))

    with override_settings(TASKSERVICE={"keep_failed": None}):
        assert Status.FAILED not in config().kept_for
        all_of(duties)

    assert left() == {kept.pk}


def test_attempts_go_with_their_task(duties: Duties, make_task: MakeTask) -> None:
    gone, stays = (finished(make_task, Status.FAILED, timedelta(days=days)) for days in (31, 1))
    for task in (gone, stays):
        Attempt.objects.create(task=task, number=1, fence=1, outcome="failed", ended_at=timezone.now())

    all_of(duties)

    assert list(Attempt.objects.values_list("task_id", flat=True)) == [stays.pk]


def test_the_oldest_go_first_and_no_more_than_a_batch(make_task: MakeTask) -> None:
    tasks = [finished(make_task, Status.FAILED, timedelta(days=40 + number)) for number in range(5)]

    assert lifecycle.prune(Status.FAILED, **now(), limit=2) == 2

    assert left() == {task.pk for task in tasks[:3]}


def test_the_log_tells_once_how_many_went(
    duties: Duties, make_task: MakeTask, caplog: pytest.LogCaptureFixture
) -> None:
    for status in (Status.COMPLETED, Status.COMPLETED, Status.CANCELLED):
        finished(make_task, status, timedelta(days=90))

    with caplog.at_level(logging.INFO):
        all_of(duties)
        all_of(duties)

    told = [record for record in caplog.records if record.getMessage().startswith("tasks.pruned")]
    assert len(told) == 1
    assert vars(told[0])["fields"] == {"completed": 2, "cancelled": 1}


def test_an_index_leads_to_what_goes(make_task: MakeTask) -> None:
    finished(make_task, Status.COMPLETED, timedelta(days=90))

    looks = plans_of(lambda: lifecycle.any_outlived(Status.COMPLETED, **now()))
    assert_only(looks, "task_finished_idx")
    plans = plans_of(lambda: lifecycle.prune(Status.COMPLETED, **now()))
    for plan in plans[:1]:
        assert_only([plan], "task_finished_idx")
    assert not [complaint for plan in plans for complaint in plan.complaints]


@contextmanager
def in_another_thread(work: Callable[[], object]) -> Iterator[list[object]]:
    """What it returned, once it is over; it begins while the block runs."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            results.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    yield results
    thread.join(30)


def test_what_is_retried_at_this_moment_stays(make_task: MakeTask) -> None:
    """Of two that want the row at once, whoever is first decides; a retried task is never the one to go."""
    for _ in range(20):
        task = finished(make_task, Status.FAILED, timedelta(days=90))
        barrier = threading.Barrier(2)

        def retried(pk: Any = task.pk, barrier: threading.Barrier = barrier) -> int:
            barrier.wait()
            return lifecycle.retry([pk])

        with in_another_thread(retried) as answers:
            barrier.wait()
            pruned = lifecycle.prune(Status.FAILED, **now())

        assert answers == [1 - pruned]
        assert Task.objects.filter(pk=task.pk, status=Status.PENDING).exists() == (pruned == 0)
        Task.objects.all().delete()


@pytest.mark.postgres
def test_what_another_machine_prunes_or_retries_is_passed_by(make_task: MakeTask) -> None:
    from django.db import transaction

    locked, free = (finished(make_task, Status.FAILED, timedelta(days=days)) for days in (90, 80))
    with transaction.atomic():
        assert Task.objects.select_for_update().get(pk=locked.pk)
        with in_another_thread(lambda: lifecycle.prune(Status.FAILED, **now())) as pruned:
            wait_until(lambda: pruned, "the other one is done", patience=10)

    assert pruned == [1]
    assert left() == {locked.pk}
    assert free.pk not in left()


def test_a_real_worker_prunes_by_its_settings(run_workers: RunWorkers, make_task: MakeTask) -> None:
    gone = [finished(make_task, Status.COMPLETED, timedelta(hours=2)) for _ in range(450)]
    kept = finished(make_task, Status.FAILED, timedelta(days=400))

    worker = run_workers(
        "--n", "1", TASKSERVICE_KEEP_COMPLETED_DAYS="0.05", TASKSERVICE_KEEP_FAILED_DAYS="none"
    )

    wait_until(lambda: not Task.objects.filter(pk__in=[task.pk for task in gone]).exists(), "they are gone")
    assert left() == {kept.pk}
    [told] = worker.wait_event("tasks.pruned")
    assert told["completed"] == 450


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_rows_are_pruned_and_no_claim_waits_long(duties: Duties) -> None:
    """A third of them finished long ago; beside each batch a claim, as in a turn."""
    fill_table(1_000_000, 1)
    alone = [claim() for _ in range(50)]
    beside: list[float] = []
    batches: list[float] = []

    while True:
        began = time.perf_counter()
        more = duties.prune([])
        batches.append(time.perf_counter() - began)
        if not more:
            break
        if len(batches) % 20 == 0:
            beside.append(claim())

    assert not Task.objects.filter(status__in=FINISHED).exists()
    assert Task.objects.count() == 1_000_000 - 333_333
    alone_ms, beside_ms, batch_ms = (statistics.median(values) * 1000 for values in (alone, beside, batches))
    print(f"claim alone {alone_ms:.2f} ms, while pruning {beside_ms:.2f} ms; a batch {batch_ms:.2f} ms")
    assert beside_ms <= 3 * alone_ms + 5


def claim() -> float:
    who = claimant(handlers=("bench.noop", "bench.rare"))
    began = time.perf_counter()
    leases = lifecycle.claim(who, limit=64, now=timezone.now())
    took = time.perf_counter() - began
    assert len(leases) == 64
    lifecycle.release(leases, now=timezone.now())
    return took
