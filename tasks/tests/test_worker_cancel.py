"""Cancelling tells the truth: what is answered is what happens."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models import Attempt, Task
from tasks.states import Status
from tasks.tests.standing import pids, standing_worker, worker
from tasks.tests.workers import RunningWorker, enqueue, lines, wait_all_finished, wait_finished, wait_until

__all__ = ["standing_worker", "worker"]

SEEN_WITHIN = timedelta(seconds=1)


def wait_started(path: Path, count: int = 1) -> list[list[str]]:
    def starts() -> list[list[str]]:
        found = [words for words in lines(path) if words[0] == "start"]
        return found if len(found) >= count else []

    return wait_until(starts, f"{count} started")


def running(handler: str, path: Path, **payload: Any) -> UUID:
    """A task whose handler has begun."""
    task_id = enqueue(handler, payload={"path": str(path), **payload})
    wait_started(path)
    return task_id


def cancel(task_id: UUID) -> str:
    answer = lifecycle.cancel([task_id])
    [said] = [name for name in ("cancelled", "requested", "finished") if task_id in getattr(answer, name)]
    return said


@pytest.mark.parametrize("handler", ["fault.record", "fault.record_async"])
def test_a_running_task_is_cancelled_within_a_second(
    worker: RunningWorker, tmp_path: Path, handler: str
) -> None:
    before = pids(worker)
    task_id = running(handler, tmp_path / "ran", seconds=60)

    assert cancel(task_id) == "requested"

    task = wait_finished(task_id)
    assert task.status == Status.CANCELLED
    assert task.cancel_requested_at is not None
    assert task.finished_at is not None
    assert task.finished_at - task.cancel_requested_at < SEEN_WITHIN
    attempt = Attempt.objects.get(task_id=task_id)
    assert attempt.outcome == Attempt.Outcome.CANCELLED
    assert attempt.error_type == "tasks.errors.TaskCancelled"
    assert handler.removeprefix("fault.") in attempt.traceback
    assert "end" not in [words[0] for words in lines(tmp_path / "ran")]
    assert pids(worker) == before


def test_a_cancel_is_seen_within_a_second_when_nobody_rings(worker: RunningWorker, tmp_path: Path) -> None:
    task_id = running("fault.record", tmp_path / "ran", seconds=60)

    Task.objects.filter(pk=task_id).update(cancel_requested_at=Task.objects.get(pk=task_id).created_at)

    began = time.monotonic()
    assert wait_finished(task_id).status == Status.CANCELLED
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("how", ["error", "give up", "retry", "exit"])
@pytest.mark.parametrize("handler", ["antic.reacts", "antic.reacts_async"])
def test_whatever_a_handler_raises_in_answer_it_is_cancelled(
    worker: RunningWorker, tmp_path: Path, handler: str, how: str
) -> None:
    task_id = running(handler, tmp_path / "ran", how=how)

    cancel(task_id)

    assert wait_finished(task_id).status == Status.CANCELLED


@pytest.mark.parametrize("handler", ["antic.reacts", "antic.reacts_async"])
def test_one_that_returns_a_value_all_the_same_is_completed(
    worker: RunningWorker, tmp_path: Path, handler: str
) -> None:
    task_id = running(handler, tmp_path / "ran", how="value")

    assert cancel(task_id) == "requested"

    task = wait_finished(task_id)
    assert (task.status, task.result) == (Status.COMPLETED, "value")
    assert cancel(task_id) == "finished"


def test_a_handler_that_does_not_listen_is_killed_and_never_tried_again(
    worker: RunningWorker, tmp_path: Path
) -> None:
    before = pids(worker)
    deaf = enqueue("fault.deaf", timeout=None)
    ignoring = running("antic.records_and_ignores", tmp_path / "ran")
    late = enqueue("antic.records_and_ignores", timeout=timedelta(seconds=0.1), payload=_at(tmp_path, "late"))
    wait_started(tmp_path / "late")
    wait_until(lambda: worker_said(worker, "task.interrupted", late), "its limit was faster than the wish")
    wait_until(lambda: Task.objects.get(pk=deaf).status == Status.PROCESSING, "it was claimed")

    lifecycle.cancel([deaf, ignoring, late])

    assert {wait_finished(task_id).status for task_id in (deaf, ignoring, late)} == {Status.CANCELLED}
    outcomes = dict(Attempt.objects.values_list("task_id", "outcome"))
    assert outcomes == {
        deaf: Attempt.Outcome.CANCELLED,
        ignoring: Attempt.Outcome.CANCELLED,
        late: Attempt.Outcome.TIMED_OUT,
    }
    assert len(before - pids(worker)) == 3


def worker_said(worker: RunningWorker, event: str, task_id: UUID) -> bool:
    return str(task_id) in [line["task_id"] for line in worker.events(event)]


def test_a_pending_task_that_is_cancelled_never_starts(worker: RunningWorker, tmp_path: Path) -> None:
    lifecycle.pause(["paused"])
    task_id = enqueue("fault.record", queue="paused", payload=_at(tmp_path))

    assert cancel(task_id) == "cancelled"

    lifecycle.resume(["paused"])
    wait_finished(enqueue("fault.noop", queue="paused"))
    assert not (tmp_path / "ran").exists()
    assert Task.objects.get(pk=task_id).status == Status.CANCELLED


def test_a_lease_handed_ahead_that_is_cancelled_never_starts(worker: RunningWorker, tmp_path: Path) -> None:
    """Short tasks first, so that an executor holds several; then one that takes long."""
    for _ in range(300):
        enqueue("fault.record", payload=_at(tmp_path, "warm"))
    slow = [enqueue("fault.record", payload=_at(tmp_path, "slow", seconds=2)) for _ in range(8)]
    behind = [enqueue("fault.record", payload=_at(tmp_path, "behind")) for _ in range(100)]
    wait_started(tmp_path / "slow", 8)

    answers = {task_id: cancel(task_id) for task_id in behind}

    wait_all_finished()
    started = {words[1] for words in lines(tmp_path / "behind")}
    for task_id, answer in answers.items():
        status = Task.objects.get(pk=task_id).status
        if answer == "cancelled":
            assert str(task_id) not in started
        assert (status == Status.COMPLETED) == (str(task_id) in started)
    assert {wait_finished(task_id).status for task_id in slow} == {Status.COMPLETED}
    assert not Attempt.objects.exists()  # nobody was billed for a run that never began


def test_cancelling_is_never_answered_with_anything_but_what_happens(
    worker: RunningWorker, tmp_path: Path
) -> None:
    _race(tmp_path, rounds=25)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_cancelling_tells_the_truth_ten_thousand_times(worker: RunningWorker, tmp_path: Path) -> None:
    answers = _race(tmp_path, rounds=1000)

    assert set(answers.values()) == {"cancelled", "requested", "finished"}


def _race(tmp_path: Path, *, rounds: int) -> dict[UUID, str]:
    """Cancel tasks about when they begin or end: as long as they take, give or take 5 ms."""
    rng = random.Random()
    answers: dict[UUID, str] = {}
    for _ in range(rounds):
        seconds = rng.choice([0, 0.01, 0.03])
        handler = rng.choice(["fault.record", "fault.record_async"])
        spec = TaskSpec(handler=handler, payload=_at(tmp_path, seconds=seconds))
        ids = [made.id for made in lifecycle.enqueue([spec] * 10)]
        time.sleep(max(0.0, seconds + rng.uniform(-0.005, 0.005)))
        for task_id in ids:
            answers[task_id] = cancel(task_id)
    wait_all_finished()
    _check(answers, lines(tmp_path / "ran"))
    return answers


def _check(answers: dict[UUID, str], ran: list[list[str]]) -> None:
    started = {words[1] for words in ran if words[0] == "start"}
    ended = {words[1] for words in ran if words[0] == "end"}
    starts = [words[1] for words in ran if words[0] == "start"]
    assert len(starts) == len(started)  # each at most once
    for task_id, status in Task.objects.values_list("pk", "status"):
        match answers[task_id]:
            case "cancelled":
                assert status == Status.CANCELLED
                assert str(task_id) not in started
            case "requested":
                assert status in (Status.CANCELLED, Status.COMPLETED)
            case "finished":
                assert status == Status.COMPLETED
        if status == Status.COMPLETED:
            assert str(task_id) in ended
    assert set(Attempt.objects.values_list("outcome", flat=True)) <= {Attempt.Outcome.CANCELLED}


def _at(tmp_path: Path, name: str = "ran", **payload: Any) -> dict[str, Any]:
    return {"path": str(tmp_path / name), **payload}
