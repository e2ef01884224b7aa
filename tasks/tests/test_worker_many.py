"""Several workers on one database, and many tasks: everything runs once, and nobody starves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import batched
from pathlib import Path
from uuid import UUID

from tasks import lifecycle
from tasks.contract import Enqueued, TaskSpec
from tasks.models import Attempt, Task
from tasks.states import Status
from tasks.tests.workers import RunWorkers, lines, run_workers, wait_all_finished, wait_until

__all__ = ["run_workers"]


def enqueue_many(count: int, path: Path, **fields: object) -> list[Enqueued]:
    spec = TaskSpec(handler="fault.record", payload={"path": str(path)}, **fields)  # type: ignore[arg-type]  # a test
    return [made for batch in batched([spec] * count, 500) for made in lifecycle.enqueue(batch)]


def assert_each_ran_once(path: Path, ids: Iterable[UUID]) -> None:
    wanted = Counter(str(id_) for id_ in ids)
    for word in ("start", "end"):
        assert Counter(task_id for kind, task_id, *_ in lines(path) if kind == word) == wanted
    assert not Task.objects.exclude(status=Status.COMPLETED, attempt=1, releases=0, crashes=0).exists()
    assert all(result == 1 for result in Task.objects.values_list("result", flat=True))
    assert not Attempt.objects.exists()


def test_two_workers_on_one_database_run_nothing_twice(run_workers: RunWorkers, tmp_path: Path) -> None:
    made = enqueue_many(1_000, tmp_path / "ran")

    first, second = run_workers("--n", "2"), run_workers("--n", "2")
    for worker in (first, second):
        worker.wait_executors(2)
    made += enqueue_many(2_000, tmp_path / "ran")  # now there are two to race for it
    wait_all_finished()

    assert_each_ran_once(tmp_path / "ran", [task.id for task in made])
    shares = Counter(Task.objects.values_list("worker_id", flat=True))
    assert len(shares) == 2, f"one of them had nothing to do: {shares}"
    assert [first.stop(), second.stop()] == [0, 0]


def test_no_queue_waits_for_the_backlog_of_another(run_workers: RunWorkers, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    enqueue_many(3_000, ran, queue="crowded")
    few = [*enqueue_many(5, ran, queue="a-few"), *enqueue_many(5, ran, queue="some-more")]

    run_workers("--n", "2")
    wait_until(
        lambda: Task.objects.filter(pk__in=[task.id for task in few], status=Status.COMPLETED).count() == 10,
        "the few are done",
    )

    assert Task.objects.filter(queue="crowded", status=Status.PENDING).count() > 1_000


def test_ten_thousand_tasks_run_and_complete_once_each(run_workers: RunWorkers, tmp_path: Path) -> None:
    run_workers("--n", "3")

    made = enqueue_many(10_000, tmp_path / "ran")
    wait_all_finished()

    assert_each_ran_once(tmp_path / "ran", [task.id for task in made])
