"""What becomes of tasks whose worker dies or stops: kill -9 and SIGSTOP of real processes, at their worst."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from django.db import transaction

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models import Attempt, Task, Worker
from tasks.states import Status
from tasks.tests.workers import (
    RunningWorker,
    RunWorkers,
    assert_gone,
    enqueue,
    lines,
    lock_files,
    run_workers,
    runner_of,
    wait_all_finished,
    wait_finished,
    wait_until,
)

__all__ = ["run_workers"]

LONG_LEASE = {"TASKSERVICE_LEASE_SECONDS": "60"}  # so that nothing is taken back because a lease lapsed


def assert_no_overlap(path: Path) -> None:
    """No run of a task wrote anything once a later run of it had begun."""
    fences: dict[str, int] = defaultdict(int)
    for _, task_id, _, fence, _ in lines(path):
        assert int(fence) >= fences[task_id], f"two runs of {task_id} at the same time"
        fences[task_id] = int(fence)


def held_by(worker: RunningWorker) -> int:
    of_it = Worker.objects.filter(pid=worker.pid).values("pk")
    return Task.objects.filter(worker_id__in=of_it, status=Status.PROCESSING).count()


def test_executors_end_with_their_dispatcher_whatever_they_do(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    for handler in ("fault.regex", "fault.deaf", "fault.stubborn"):
        enqueue(handler)
    for deaf in (False, True):
        enqueue("fault.child", payload={"path": str(ran), "deaf": deaf})
    worker = run_workers("--n", "6", **LONG_LEASE)
    worker.wait_executors(6)  # one of them idle
    wait_until(lambda: held_by(worker) == 5 and len(lines(ran)) == 2, "the others run")
    programs = [child for child in worker.children() if child.name() == "sleep"]
    assert len(programs) == 2

    worker.kill()

    assert_gone(worker)


def test_an_idle_worker_leaves_nothing_behind_when_it_is_killed(run_workers: RunWorkers) -> None:
    worker = run_workers("--n", "2")
    worker.wait_executors(2)

    worker.kill()

    assert_gone(worker)


def test_a_worker_that_is_killed_while_it_starts_leaves_nothing_behind(run_workers: RunWorkers) -> None:
    worker = run_workers("--n", "3")
    worker.forkserver()  # itself only starting: it has no executor yet

    worker.kill()

    wait_until(lambda: not worker.survivors(), "nothing is left of it")


def test_the_next_start_takes_over_at_once(run_workers: RunWorkers, tmp_path: Path) -> None:
    ran, go = tmp_path / "ran", tmp_path / "go"
    task_id = enqueue("fault.until", payload={"path": str(ran), "file": str(go)})
    first = run_workers("--n", "1", **LONG_LEASE)
    runner_of(ran)

    first.kill()
    second = run_workers("--n", "1", **LONG_LEASE)
    runner_of(ran, attempt=2)
    go.touch()
    task = wait_finished(task_id)

    assert (task.status, task.attempt, task.crashes, task.result) == (Status.COMPLETED, 2, 0, 2)
    assert [attempt.outcome for attempt in task.attempts.all()] == [Attempt.Outcome.LAPSED]
    assert [word for word, *_ in lines(ran)] == ["start", "start", "end"]
    assert [row.pid for row in Worker.objects.all()] == [second.pid]
    assert not lock_files(first)


def test_another_worker_takes_over_within_seconds(run_workers: RunWorkers, tmp_path: Path) -> None:
    ran, go = tmp_path / "ran", tmp_path / "go"
    task_id = enqueue("fault.until", payload={"path": str(ran), "file": str(go)})
    first = run_workers("--n", "1", **LONG_LEASE)
    runner_of(ran)
    other = run_workers("--n", "1", **LONG_LEASE)
    other.wait_executors(1)

    first.kill()
    killed = time.monotonic()
    runner_of(ran, attempt=2)
    assert time.monotonic() - killed < 5
    go.touch()

    assert wait_finished(task_id).result == 2
    assert_no_overlap(ran)


def test_nothing_is_taken_over_while_an_executor_of_the_dead_worker_lives(run_workers: RunWorkers) -> None:
    task_id = enqueue("fault.deaf")  # it hears nothing, also not that its dispatcher has died
    first = run_workers("--n", "1", **LONG_LEASE)
    wait_until(lambda: Task.objects.filter(pk=task_id, status=Status.PROCESSING).exists(), "it runs")
    [executor] = first.executors()
    forkserver = first.forkserver()
    forkserver.suspend()  # it cannot end, and so the kernel does not end the executor

    first.kill()
    other = run_workers("--n", "1", **LONG_LEASE)
    wait_finished(enqueue("fault.record", payload={"path": os.devnull}))
    time.sleep(2)  # two rounds of reaping
    assert executor.is_running()
    assert not Attempt.objects.filter(task_id=task_id).exists()
    forkserver.resume()

    wait_until(lambda: Attempt.objects.filter(task_id=task_id, outcome="lapsed").exists(), "it is taken over")
    assert executor not in first.survivors()
    assert other.executors()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Path]:
    """Where ``fault.daemon`` writes what it has started; that is ended with the test."""
    path = tmp_path / "ran"
    yield path
    for word, pid, *_ in lines(path):
        if word == "daemon":
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def test_a_process_that_a_handler_set_free_does_not_hold_up_recovery(
    run_workers: RunWorkers, daemon: Path
) -> None:
    enqueue("fault.daemon", payload={"path": str(daemon)})
    first = run_workers("--n", "1", **LONG_LEASE)
    runner_of(daemon)

    first.kill()
    run_workers("--n", "1", **LONG_LEASE)

    runner_of(daemon, attempt=2)


def test_a_kill_of_everything_loses_no_task(run_workers: RunWorkers, tmp_path: Path) -> None:
    """Twice, with tasks running and tasks in hand; more keep coming."""
    ran, ids = tmp_path / "ran", list[UUID]()

    def more(seconds: float) -> None:
        ids.extend(enqueue("fault.record", payload={"path": str(ran), "seconds": seconds}) for _ in range(40))

    for _ in range(2):
        worker = run_workers("--n", "3", **LONG_LEASE)
        before = len(lines(ran))
        more(0.05)
        wait_until(lambda before=before: len(lines(ran)) > before + 30, "they run")  # type: ignore[misc]
        more(0)
        worker.kill_everything()
        more(0.01)
    worker = run_workers("--n", "3", **LONG_LEASE)
    wait_all_finished()

    assert Task.objects.filter(pk__in=ids, status=Status.COMPLETED).count() == len(ids)
    ended = {task_id for word, task_id, *_ in lines(ran) if word == "end"}
    assert ended == {str(task_id) for task_id in ids}
    assert_no_overlap(ran)
    assert Task.objects.filter(attempt__gt=3).count() == 0
    assert Attempt.objects.exclude(outcome=Attempt.Outcome.LAPSED).count() == 0
    assert worker.stop() == 0


def freeze_with_some_unbegun(worker: RunningWorker, ran: Path) -> tuple[set[UUID], set[UUID]]:
    """Stop all its processes while leases lie ready behind others. The tasks that it holds, and all begun."""

    def frozen() -> tuple[set[UUID], set[UUID]] | None:
        processes = [psutil.Process(worker.pid), *worker.children()]
        with transaction.atomic():  # on SQLite nobody could write while it froze in a commit: ours is open
            for process in processes:
                process.suspend()
        held = set(Task.objects.filter(status=Status.PROCESSING).values_list("pk", flat=True))
        begun = {UUID(task_id) for word, task_id, *_ in lines(ran) if word == "start"}
        if held - begun and held & begun:
            return held, begun
        for process in processes:
            process.resume()
        return None

    found = wait_until(frozen, "it is met with leases ready behind others")
    assert found is not None
    return found


def enqueue_short_ones(ran: Path) -> None:
    """Short enough to be handed ahead, and long enough that a line is not empty a moment later."""
    spec = TaskSpec(handler="fault.record", payload={"path": str(ran), "seconds": 0.002})
    lifecycle.enqueue([spec] * 3_000)


def test_a_kill_of_everything_costs_an_attempt_where_one_had_begun_and_only_there(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    """Also where it had ended already, and only its outcome was not written yet."""
    ran = tmp_path / "ran"
    enqueue_short_ones(ran)
    worker = run_workers("--n", "3", **LONG_LEASE)
    wait_until(lambda: len(lines(ran)) > 500, "they run")

    held, begun = freeze_with_some_unbegun(worker, ran)
    worker.kill_everything()
    run_workers("--n", "3", **LONG_LEASE)
    wait_all_finished()

    charged = set(Task.objects.filter(attempt=2).values_list("pk", flat=True))
    assert charged >= held & begun
    assert len(charged - begun) <= 3, "one of each executor may have died before its first line"
    assert Attempt.objects.filter(outcome=Attempt.Outcome.LAPSED).count() == len(charged)
    assert Task.objects.filter(attempt=1, releases=0).count() == 3_000 - len(charged)
    assert not Task.objects.filter(started_at=None).exists()


def test_of_a_worker_that_froze_an_attempt_is_charged_only_where_one_had_begun(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    enqueue_short_ones(ran)
    frozen = run_workers("--n", "3")
    wait_until(lambda: len(lines(ran)) > 500, "they run")

    held, begun = freeze_with_some_unbegun(frozen, ran)
    run_workers("--n", "3")
    wait_all_finished()

    charged = set(Task.objects.filter(attempt=2).values_list("pk", flat=True))
    assert charged >= held & begun
    assert len(charged - begun) <= 3


@pytest.mark.parametrize("who", ["dispatcher", "everything"])
def test_a_worker_that_slept_through_its_lease_drops_its_late_outcome_and_works_on(
    run_workers: RunWorkers, tmp_path: Path, who: str
) -> None:
    ran, go = tmp_path / "ran", tmp_path / "go"
    task_id = enqueue("fault.until", payload={"path": str(ran), "file": str(go)})
    sleeper = run_workers("--n", "1")
    runner = runner_of(ran)
    stopped = [sleeper.pid] if who == "dispatcher" else [sleeper.pid, runner.pid]

    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    other = run_workers("--n", "1")
    runner_of(ran, attempt=2)
    (tmp_path / "go-1").touch()
    if who == "dispatcher":
        wait_until(lambda: "end" in [word for word, *_ in lines(ran)], "its executor has ended meanwhile")
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: sleeper.events("outcome.dropped") or sleeper.events("lease.lost"), "it is told")
    meanwhile = Task.objects.get(pk=task_id)
    go.touch()
    task = wait_finished(task_id)
    assert other.stop() == 0
    later = wait_finished(enqueue("fault.noop"))

    assert (meanwhile.status, meanwhile.fence) == (Status.PROCESSING, 2)
    task.refresh_from_db()
    assert (task.status, task.attempt, task.result, task.fence) == (Status.COMPLETED, 2, 2, 2)
    assert [attempt.outcome for attempt in task.attempts.all()] == [Attempt.Outcome.LAPSED]
    assert later.worker_id == Worker.objects.get(pid=sleeper.pid).pk
    assert later.worker_id != task.worker_id


def test_a_lease_is_renewed_for_as_long_as_its_task_runs(run_workers: RunWorkers, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    task_id = enqueue("fault.record", payload={"path": str(ran), "seconds": 7})  # of leases of two
    run_workers("--n", "1")
    runner_of(ran)
    run_workers("--n", "1")

    task = wait_finished(task_id)

    assert (task.status, task.attempt, task.fence) == (Status.COMPLETED, 1, 1)
    assert [word for word, *_ in lines(ran)] == ["start", "end"]
