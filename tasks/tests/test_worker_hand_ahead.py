"""An executor holds several leases while its tasks are short, and nobody waits behind one that is not."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models import Attempt, Task
from tasks.states import Status
from tasks.tests.standing import APPS
from tasks.tests.workers import (
    RunningWorker,
    RunWorkers,
    lines,
    run_workers,
    wait_all_finished,
    wait_until,
)

__all__ = ["run_workers"]

NEVER = timedelta(hours=1)


def short(path: Path, **fields: Any) -> TaskSpec:
    payload = {"path": str(path), **fields.pop("payload", {})}
    return TaskSpec(handler="antic.mostly_short", payload=payload, timeout=NEVER, **fields)


def start(run_workers: RunWorkers, executors: int) -> RunningWorker:
    return run_workers("--n", str(executors), TASKSERVICE_APPS=APPS, LOG_LEVEL="DEBUG")


def learn(path: Path) -> None:
    """Let the worker see that this handler is short."""
    lifecycle.enqueue([short(path)] * 100)
    wait_all_finished()


def enqueue_slow_first(path: Path, how: dict[str, Any], **fields: Any) -> tuple[UUID, list[UUID]]:
    """One task that turns out slow, and short ones behind it, all ready at the same moment."""
    slow, *behind = lifecycle.enqueue([short(path, payload=how), *[short(path, **fields)] * 25])
    return slow.id, [made.id for made in behind]


def begun_at(path: Path, task_id: UUID) -> float:
    def begun() -> list[float]:
        return [float(words[-1]) for words in lines(path) if words[:2] == ["start", str(task_id)]]

    return wait_until(begun, "it has begun")[-1]


def claims(worker: RunningWorker, task_id: UUID) -> int:
    return [event["task_id"] for event in worker.events("task.claimed")].count(str(task_id))


def test_an_executor_holds_several_leases_while_tasks_are_short(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    start(run_workers, 1)
    learn(tmp_path / "ran")

    lifecycle.enqueue([short(tmp_path / "ran")] * 600)
    in_hand = []
    processing = Task.objects.filter(status=Status.PROCESSING)

    def count() -> bool:
        in_hand.append(processing.count())
        return not Task.objects.filter(finished_at=None).exists()

    wait_until(count, "all have finished")
    assert max(in_hand) > 1
    starts = [words[1] for words in lines(tmp_path / "ran") if words[0] == "start"]
    assert len(starts) == len(set(starts)) == 700


@pytest.mark.parametrize(
    "how",
    [pytest.param({"seconds": 8}, marks=pytest.mark.slow), {"how": "deaf"}],
    ids=["sleeps", "holds the GIL in C"],
)
def test_what_waits_behind_a_task_that_turned_out_slow_is_given_to_another_executor(
    run_workers: RunWorkers, tmp_path: Path, how: dict[str, Any]
) -> None:
    worker = start(run_workers, 2)
    learn(tmp_path / "warm")

    slow, behind = enqueue_slow_first(tmp_path / "ran", how)

    began = begun_at(tmp_path / "ran", slow)
    late = [begun_at(tmp_path / "ran", task_id) - began for task_id in behind]
    assert Task.objects.get(pk=slow).status == Status.PROCESSING
    assert max(late) < 2
    assert max(claims(worker, task_id) for task_id in behind) > 1  # some had been behind it
    assert not Attempt.objects.exists()
    attempts = Task.objects.filter(pk__in=behind, status=Status.COMPLETED).values_list("attempt", flat=True)
    assert set(attempts) == {1}  # a recall costs nothing


def test_with_nobody_else_free_the_tasks_behind_a_slow_one_wait_in_the_table(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    """Where another worker could take them."""
    worker = start(run_workers, 1)
    learn(tmp_path / "warm")

    slow, behind = enqueue_slow_first(tmp_path / "ran", {"seconds": 3})
    begun_at(tmp_path / "ran", slow)

    others = Task.objects.filter(pk__in=behind)
    wait_until(lambda: set(others.values_list("status", flat=True)) == {Status.PENDING}, "all are back")
    assert Task.objects.get(pk=slow).status == Status.PROCESSING
    wait_all_finished()
    order = [words[1] for words in lines(tmp_path / "ran") if words[0] == "start"]
    assert order == [str(slow), *map(str, behind)]  # they have kept their places
    assert max(claims(worker, task_id) for task_id in behind) <= 4  # not claimed and recalled all the time


def test_a_task_on_its_last_attempt_never_waits_behind_another(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    worker = start(run_workers, 1)
    learn(tmp_path / "warm")

    slow, behind = enqueue_slow_first(tmp_path / "ran", {"seconds": 1}, max_attempts=1)
    wait_all_finished()

    assert {claims(worker, task_id) for task_id in behind} == {1}
    for task in Task.objects.filter(pk__in=[slow, *behind]).order_by("attempted_at"):
        earlier = Task.objects.filter(attempted_at__lt=task.attempted_at, finished_at__gt=task.attempted_at)
        assert not earlier.exists()


def test_what_waited_while_its_dispatcher_was_silent_is_not_begun(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    """Others may have taken it back since, and have told somebody that it is cancelled."""
    worker = start(run_workers, 1)
    learn(tmp_path / "warm")
    slow, behind = enqueue_slow_first(tmp_path / "ran", {"seconds": 3})  # leases are of two

    begun_at(tmp_path / "ran", slow)
    worker.signal(signal.SIGSTOP)
    taken_back = lifecycle.reap(now=timezone.now() + NEVER, spared=[slow]).written
    answer = lifecycle.cancel(behind)
    wait_until(lambda: [words for words in lines(tmp_path / "ran") if words[0] == "end"], "it has ended")
    worker.signal(signal.SIGCONT)
    wait_all_finished()

    assert taken_back  # some had been behind it
    assert sorted(answer.cancelled) == sorted(behind)
    assert {words[1] for words in lines(tmp_path / "ran")} == {str(slow)}
    assert Task.objects.get(pk=slow).status == Status.COMPLETED
    assert worker.stop() == 0


def test_behind_a_handler_that_was_never_seen_nothing_waits(run_workers: RunWorkers, tmp_path: Path) -> None:
    slow, behind = enqueue_slow_first(tmp_path / "ran", {"seconds": 1})

    worker = start(run_workers, 1)
    wait_all_finished()

    slow_end = Task.objects.get(pk=slow).finished_at
    assert slow_end is not None
    assert not Task.objects.filter(pk__in=behind, attempted_at__lt=slow_end).exists()
    assert {claims(worker, task_id) for task_id in behind} == {1}
