"""Executors are replaced now and then, and what handlers leave behind goes with them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models import Attempt, Task
from tasks.states import Status
from tasks.tests.standing import APPS, wait_gone
from tasks.tests.workers import (
    RunningWorker,
    RunWorkers,
    enqueue,
    lines,
    run_workers,
    wait_all_finished,
    wait_finished,
    wait_until,
)

__all__ = ["run_workers"]


@pytest.fixture
def start(run_workers: RunWorkers) -> RunWorkers:
    """A worker that knows ``antic.*`` as well."""

    def start(*arguments: str, **env: str) -> RunningWorker:
        return run_workers(*arguments, TASKSERVICE_APPS=APPS, **env)

    return start


def many(handler: str, count: int, **payload: Any) -> list[UUID]:
    made = lifecycle.enqueue([TaskSpec(handler=handler, payload=payload)] * count)
    return [task.id for task in made]


def test_an_executor_is_replaced_after_so_many_tasks_and_none_is_lost_or_run_twice(
    start: RunWorkers, tmp_path: Path
) -> None:
    ids = many("fault.record", 80, path=str(tmp_path / "ran"))

    worker = start("--n", "2", TASKSERVICE_RECYCLE_TASKS="5")
    wait_all_finished()

    starts = [words for words in lines(tmp_path / "ran") if words[0] == "start"]
    assert sorted(words[1] for words in starts) == sorted(map(str, ids))  # each once
    per_process = Counter(words[4] for words in starts)
    assert max(per_process.values()) <= 5
    assert set(Task.objects.values_list("status", "attempt")) == {(Status.COMPLETED, 1)}
    assert not Attempt.objects.exists()
    assert len(worker.events("executor.recycled")) >= len(per_process) - 2
    assert not worker.events("executor.ended")  # they ended in order
    assert len(worker.wait_executors(2)) == 2
    assert worker.stop() == 0


def test_an_executor_may_live_for_one_task(start: RunWorkers, tmp_path: Path) -> None:
    many("fault.record", 10, path=str(tmp_path / "ran"))

    start("--n", "2", TASKSERVICE_RECYCLE_TASKS="1")
    wait_all_finished()

    processes = [words[4] for words in lines(tmp_path / "ran") if words[0] == "start"]
    assert len(set(processes)) == len(processes) == 10


def test_an_executor_that_holds_too_much_memory_is_replaced(start: RunWorkers) -> None:
    worker = start("--n", "1", TASKSERVICE_RECYCLE_MB="200")
    first = wait_finished(enqueue("fault.leak", payload={"megabytes": 300})).result

    worker.wait_event("executor.recycled")
    wait_gone(int(first or 0))

    assert wait_finished(enqueue("antic.pid")).result != first
    assert not worker.events("executor.ended")


def test_memory_that_all_executors_share_wears_none_of_them(start: RunWorkers) -> None:
    """Less than an executor is born with: what handlers import must not have it replaced for ever."""
    worker = start("--n", "1", TASKSERVICE_RECYCLE_MB="20")
    looks = Path(f"/proc/{worker.wait_executors(1)[0].pid}")

    for _ in range(3):  # the worker looks once a second
        wait_finished(enqueue("fault.sleep", payload={"seconds": 1}))

    assert looks.exists()
    assert not worker.events("executor.recycled")


def test_what_a_handler_left_behind_goes_with_its_executor(start: RunWorkers, tmp_path: Path) -> None:
    """A thread that would keep the process alive, and a process."""
    start("--n", "1", TASKSERVICE_RECYCLE_TASKS="1")

    task = wait_finished(enqueue("antic.leaves_behind", payload={"path": str(tmp_path / "pids")}))

    [[child]] = lines(tmp_path / "pids")
    assert task.status == Status.COMPLETED
    wait_gone(int(task.result or 0), int(child))


def test_a_fork_that_comes_back_from_its_handler_makes_no_second_outcome(
    start: RunWorkers, tmp_path: Path
) -> None:
    worker = start("--n", "1")

    task = wait_finished(enqueue("antic.forks", payload={"path": str(tmp_path / "ran")}))
    raised = wait_finished(enqueue("antic.forks_and_raises", payload={"path": str(tmp_path / "ran")}))
    after = wait_finished(enqueue("antic.pid"))

    assert (task.status, task.result, task.attempt) == (Status.COMPLETED, "parent", 1)
    assert (raised.status, raised.result, raised.attempt) == (Status.COMPLETED, "parent", 1)
    forks = wait_until(lambda: found if len(found := _forks(tmp_path)) == 2 else [], "both children have run")
    wait_gone(*forks)
    [executor] = worker.wait_executors(1)
    assert after.result == executor.pid  # still the same
    assert not worker.events("executor.broken") + worker.events("outcome.dropped")


def _forks(tmp_path: Path) -> list[int]:
    return [int(words[-1]) for words in lines(tmp_path / "ran") if words[0] == "child"]


def test_connections_of_threads_that_have_ended_do_not_pile_up(start: RunWorkers) -> None:
    start("--n", "1")

    ids = many("antic.queries_in_a_thread", 40)
    open_files = [int(wait_finished(task_id).result or 0) for task_id in ids]

    assert max(open_files) - min(open_files) <= 5


def test_what_was_printed_is_not_lost_when_the_executor_goes(start: RunWorkers) -> None:
    worker = start("--n", "1", TASKSERVICE_RECYCLE_TASKS="1")

    wait_finished(enqueue("antic.says", payload={"text": "last words"}))

    wait_until(lambda: "last words" in worker.output(), "it is in the output")
