"""A worker that has nothing to do does nothing, also after whatever has happened to it."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models import Task
from tasks.states import Status, WaitingFor
from tasks.tests.rows import MakeTask
from tasks.tests.workers import (
    RunningWorker,
    RunWorkers,
    enqueue,
    run_workers,
    wait_all_finished,
    wait_finished,
    wait_until,
)

__all__ = ["run_workers"]


def assert_quiet(worker: RunningWorker, what: str, *, seconds: float = 1) -> None:
    before = worker.cpu_seconds()
    time.sleep(seconds)
    used = worker.cpu_seconds() - before
    assert used < 0.2 * seconds, f"{used:.2f} s of work in {seconds:g} s, {what}"


def test_an_idle_worker_costs_little_whatever_happened(run_workers: RunWorkers, make_task: MakeTask) -> None:
    lifecycle.pause(["held-back"])
    worker = run_workers("--n", "2")
    wait_finished(enqueue("fault.noop"))
    assert_quiet(worker, "idle")

    wait_finished(enqueue("fault.die", payload={"how": "kill"}))
    assert_quiet(worker, "after a crash")

    running = enqueue("fault.sleep", payload={"seconds": 60})
    wait_until(lambda: Task.objects.filter(pk=running, status=Status.PROCESSING).exists(), "it runs")
    lifecycle.cancel([running])
    assert wait_finished(running).status == Status.CANCELLED
    assert_quiet(worker, "after a cancel")

    for _ in range(10):
        enqueue("fault.noop", queue="held-back")
    assert_quiet(worker, "with ready tasks in a paused queue")

    enqueue("fault.noop", run_at=timezone.now() + timedelta(hours=1))
    assert_quiet(worker, "with a task in the future")

    stranger = make_task(handler="nobody.knows")
    assert_quiet(worker, "with a task that nobody knows")
    wait_until(
        lambda: Task.objects.filter(pk=stranger.pk, waiting_for=WaitingFor.HANDLER).exists(), "it is parked"
    )
    assert_quiet(worker, "after it was parked")
    assert worker.stop() == 0


def test_a_busy_worker_costs_little_while_more_waits(run_workers: RunWorkers) -> None:
    """All executors are at work: neither ready tasks nor overdue ones make the dispatcher spin."""
    worker = run_workers("--n", "1")
    running = enqueue("fault.sleep", payload={"seconds": 60})
    wait_until(lambda: Task.objects.filter(pk=running, status=Status.PROCESSING).exists(), "it runs")

    enqueue("fault.noop")
    enqueue("fault.noop", run_at=timezone.now() + timedelta(seconds=0.5))
    time.sleep(1)  # now it is due
    assert_quiet(worker, "with all executors at work")
    worker.executors()[0].suspend()
    assert_quiet(worker, "with an executor that does not answer")


@pytest.mark.slow
def test_a_full_channel_to_an_executor_keeps_nobody_busy_and_nothing_waiting(run_workers: RunWorkers) -> None:
    worker = run_workers("--n", "2")
    lifecycle.enqueue([TaskSpec(handler="fault.die")] * 200)  # so that it is known to be short
    wait_all_finished()
    ballast = {"ballast": "\u00e4" * 60_000}

    [deaf, *behind] = lifecycle.enqueue(
        [
            TaskSpec(handler="fault.die", payload={"how": "deaf"}),
            *[TaskSpec(handler="fault.die", payload=ballast)] * 40,
        ]
    )
    wait_until(
        lambda: (
            Task.objects.filter(pk__in=[task.id for task in behind], status=Status.COMPLETED).count() == 40
        ),
        "what lay behind it is done",
        patience=10,
    )

    assert Task.objects.get(pk=deaf.id).status == Status.PROCESSING
    assert_quiet(worker, "beside one that hears nothing")
