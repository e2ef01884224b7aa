"""Time limits: a handler is asked to end, and ended when it does not."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tasks.models import Attempt, Task
from tasks.states import Status
from tasks.tests.standing import pids, standing_worker, wait_gone, worker
from tasks.tests.workers import RunningWorker, enqueue, lines, wait_finished, wait_until
from tasks.worker.hands import KILL_AFTER

__all__ = ["standing_worker", "worker"]

SECOND = timedelta(seconds=1)
TENTH = timedelta(seconds=0.1)
KILLED = timedelta(seconds=KILL_AFTER)  # after the interrupt


def enqueue_once(handler: str, *, timeout: timedelta | None = SECOND, **payload: Any) -> UUID:
    """A task with one attempt."""
    return enqueue(handler, timeout=timeout, max_attempts=1, payload=payload)


def only_attempt(task_id: UUID) -> Attempt:
    return Attempt.objects.get(task_id=task_id)


def took(attempt: Attempt) -> timedelta:
    assert attempt.started_at is not None
    return attempt.ended_at - attempt.started_at


def test_a_handler_that_sleeps_is_interrupted_within_a_second_of_its_limit(worker: RunningWorker) -> None:
    before = pids(worker)
    task = wait_finished(enqueue_once("antic.nests"))

    attempt = only_attempt(task.id)
    assert task.status == Status.FAILED
    assert attempt.outcome == Attempt.Outcome.TIMED_OUT
    assert SECOND <= took(attempt) < 2 * SECOND
    assert attempt.error_type == "tasks.errors.TaskTimedOut"
    assert "_innermost_of_the_handler" in attempt.traceback
    assert pids(worker) == before  # nothing had to be killed


def test_an_interrupt_that_comes_just_before_a_handler_sleeps_is_heard(worker: RunningWorker) -> None:
    """Its signal ends no call that has not quite begun, so that one alone would be in vain."""
    before = pids(worker)

    task_ids = [enqueue_once("antic.holds_the_gil_and_sleeps", seconds=1.3) for _ in range(3)]

    for task_id in task_ids:
        assert wait_finished(task_id).status == Status.FAILED
        attempt = only_attempt(task_id)
        assert "holds_the_gil_and_sleeps" in attempt.traceback
        assert took(attempt) < KILLED
    assert pids(worker) == before


def test_an_async_handler_gets_a_cancellederror(worker: RunningWorker, tmp_path: Path) -> None:
    before = pids(worker)

    task = wait_finished(enqueue_once("fault.record_async", path=str(tmp_path / "ran"), seconds=60))

    assert [words[0] for words in lines(tmp_path / "ran")] == ["start", "cancelled"]
    attempt = only_attempt(task.id)
    assert attempt.outcome == Attempt.Outcome.TIMED_OUT
    assert SECOND <= took(attempt) < 2 * SECOND
    assert "record_async" in attempt.traceback
    assert pids(worker) == before


@pytest.mark.parametrize("handler", ["antic.reacts", "antic.reacts_async"])
def test_a_handler_that_returns_a_value_all_the_same_has_succeeded(
    worker: RunningWorker, tmp_path: Path, handler: str
) -> None:
    task = wait_finished(enqueue_once(handler, how="value", path=str(tmp_path / "ran")))

    assert task.status == Status.COMPLETED
    assert task.result == "value"
    assert not Attempt.objects.filter(task_id=task.id).exists()


@pytest.mark.parametrize("handler", ["antic.reacts", "antic.reacts_async"])
def test_one_that_answers_with_an_error_has_timed_out(
    worker: RunningWorker, tmp_path: Path, handler: str
) -> None:
    task = wait_finished(enqueue_once(handler, how="give up", path=str(tmp_path / "ran")))

    assert only_attempt(task.id).outcome == Attempt.Outcome.TIMED_OUT


DEAF = ["fault.stubborn", "fault.deaf", "antic.waits_in_sync_code", "antic.blocks_its_loop"]
HARD_OF_HEARING = ["fault.regex", "fault.joins"]  # they hear on some versions of Python


def test_whoever_does_not_listen_is_killed_and_nobody_else(worker: RunningWorker, tmp_path: Path) -> None:
    """With all that it has started, and five seconds after it was asked. A task without a limit goes on."""
    before = pids(worker)

    deaf = [enqueue_once(handler) for handler in DEAF]
    parent = enqueue_once("antic.grandchildren", path=str(tmp_path / "pids"))
    others = [enqueue_once(handler) for handler in HARD_OF_HEARING]
    payload = {"path": str(tmp_path / "ran"), "seconds": 8}
    patient = enqueue("fault.record", timeout=None, max_attempts=1, payload=payload)

    for task_id in (*deaf, parent):
        assert wait_finished(task_id).status == Status.FAILED
        attempt = only_attempt(task_id)
        assert attempt.outcome == Attempt.Outcome.TIMED_OUT
        assert attempt.traceback == ""  # it never said where it was
        assert SECOND + KILLED < took(attempt) < SECOND + KILLED + 2 * SECOND
    for task_id in others:
        assert wait_finished(task_id).status == Status.FAILED
        assert only_attempt(task_id).outcome == Attempt.Outcome.TIMED_OUT
    shell, other = lines(tmp_path / "pids")
    wait_gone(int(*shell), int(*other))
    assert wait_finished(patient).status == Status.COMPLETED
    assert 5 <= len(before - pids(worker)) <= 7  # and they have successors


def test_a_task_that_timed_out_is_tried_again_after_its_backoff(worker: RunningWorker) -> None:
    task = wait_finished(enqueue("antic.slow_once", timeout=SECOND))

    assert task.status == Status.COMPLETED
    assert task.result == 2
    attempt = only_attempt(task.id)
    assert (attempt.number, attempt.outcome) == (1, Attempt.Outcome.TIMED_OUT)
    assert task.attempted_at is not None
    assert task.attempted_at >= attempt.ended_at + timedelta(seconds=0.02)


def test_an_interrupt_never_meets_another_task_than_the_one_it_is_for(worker: RunningWorker) -> None:
    """Tasks whose limit is as long as they take: each ends in one of two ways, whoever is faster."""
    before = pids(worker)
    handlers = ["fault.sleep", "fault.sleep_async", "antic.spins"]

    for number in range(200):
        seconds = 0.1 + (number % 21 - 10) / 1000
        enqueue_once(handlers[number % 3], timeout=TENTH, seconds=seconds)
        enqueue_once("fault.noop", timeout=None)  # whom a stray interrupt would meet
    wait_until(lambda: not Task.objects.filter(finished_at=None).exists(), "all have finished", patience=60)

    noops = Task.objects.filter(handler="fault.noop")
    assert set(noops.values_list("status", flat=True)) == {Status.COMPLETED}
    assert set(Attempt.objects.values_list("outcome", flat=True)) <= {Attempt.Outcome.TIMED_OUT}
    ends = Task.objects.exclude(handler="fault.noop").values_list("status", flat=True)
    assert set(ends) <= {Status.COMPLETED, Status.FAILED}
    assert pids(worker) == before  # no executor was lost


@pytest.mark.slow
def test_thousands_of_races_between_a_limit_and_an_end(worker: RunningWorker) -> None:
    for _ in range(10):
        test_an_interrupt_never_meets_another_task_than_the_one_it_is_for(worker)


def test_an_interrupt_in_the_middle_of_a_transaction_leaves_nothing_behind(worker: RunningWorker) -> None:
    before = pids(worker)

    for _ in range(30):
        enqueue_once("antic.writes_all_the_time", timeout=TENTH)
    wait_until(lambda: not Task.objects.filter(finished_at=None).exists(), "all have finished", patience=60)
    after = [wait_finished(enqueue_once("antic.writes_once")) for _ in range(12)]

    assert set(Attempt.objects.values_list("outcome", flat=True)) == {Attempt.Outcome.TIMED_OUT}
    assert [task.result for task in after] == [[False, True]] * 12
    assert pids(worker) == before


def test_an_interrupt_that_python_drops_is_repeated(worker: RunningWorker) -> None:
    """As whatever is raised in a ``__del__`` is."""
    before = pids(worker)

    task = wait_finished(enqueue_once("antic.is_interrupted_in_del", timeout=TENTH))

    assert took(only_attempt(task.id)) < 2 * SECOND
    assert pids(worker) == before


def test_a_handler_that_took_the_signal_harms_only_itself(worker: RunningWorker) -> None:
    for _ in range(8):
        wait_finished(enqueue("antic.takes_the_signal"))
    before = pids(worker)

    for task_id in [enqueue_once("fault.sleep", seconds=60) for _ in range(8)]:
        wait_finished(task_id)

    assert {took(attempt) < 3 * SECOND for attempt in Attempt.objects.all()} == {True}
    assert pids(worker) == before
