"""The signals of ``django.tasks``, as a receiver in a user's app hears them from a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tasks.models import Attempt, Task
from tasks.states import Status
from tasks.tests.standing import pids, standing_worker, worker
from tasks.tests.workers import RunningWorker, enqueue, lines, wait_finished

__all__ = ["standing_worker", "worker"]


def heard(path: Path) -> list[tuple[str, int]]:
    """What was called, in order: the handler and the receivers, with the number of the attempt."""
    return [(words[0], int(words[1])) for words in lines(path)]


def run(path: Path, **fields: Any) -> Task:
    payload = {"path": str(path), **fields.pop("payload", {})}
    return wait_finished(enqueue("antic.heard", payload=payload, **fields))


def test_a_success_is_told_before_and_after(worker: RunningWorker, tmp_path: Path) -> None:
    task = run(tmp_path / "heard")

    assert heard(tmp_path / "heard") == [("started", 1), ("handler", 1), ("finished", 1)]
    started, _, finished = lines(tmp_path / "heard")
    assert (started[3], finished[3]) == ("RUNNING", "SUCCESSFUL")
    assert UUID(started[4]) == UUID(finished[4]) == task.id


def test_receivers_are_called_in_the_process_that_runs_the_handler(
    worker: RunningWorker, tmp_path: Path
) -> None:
    run(tmp_path / "heard")

    callers = {int(words[2]) for words in lines(tmp_path / "heard")}
    assert len(callers) == 1
    assert callers <= pids(worker)


def test_a_failure_is_told_when_no_attempt_is_left(worker: RunningWorker, tmp_path: Path) -> None:
    run(tmp_path / "heard", max_attempts=2, payload={"fail_times": 9})

    assert heard(tmp_path / "heard") == [
        ("started", 1),
        ("handler", 1),
        ("started", 2),
        ("handler", 2),
        ("finished", 2),
    ]
    assert lines(tmp_path / "heard")[-1][3] == "FAILED"


def test_a_success_after_failures_is_told_once(worker: RunningWorker, tmp_path: Path) -> None:
    run(tmp_path / "heard", payload={"fail_times": 1})

    assert [name for name, _ in heard(tmp_path / "heard")].count("finished") == 1
    assert lines(tmp_path / "heard")[-1][3] == "SUCCESSFUL"


def test_a_task_that_ends_without_its_executor_has_no_last_word(
    worker: RunningWorker, tmp_path: Path
) -> None:
    task = run(tmp_path / "heard", max_attempts=1, payload={"how": "dies"})

    assert task.status == Status.FAILED
    assert heard(tmp_path / "heard") == [("started", 1), ("handler", 1)]


@pytest.mark.parametrize("receiver", ["raises", "exits", "exits when finished", "base exception"])
def test_a_receiver_that_raises_harms_nothing(worker: RunningWorker, tmp_path: Path, receiver: str) -> None:
    before = pids(worker)

    task = run(tmp_path / "heard", payload={"receiver": receiver})

    assert (task.status, task.result, task.attempt) == (Status.COMPLETED, "done", 1)
    assert not Attempt.objects.exists()
    assert heard(tmp_path / "heard") == [("started", 1), ("handler", 1), ("finished", 1)]
    assert pids(worker) == before
