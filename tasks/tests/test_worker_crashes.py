"""What becomes of a task whose process dies: real deaths, seen by a real dispatcher."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models import Attempt, Task
from tasks.states import Status
from tasks.tests.workers import (
    RunWorkers,
    enqueue,
    error_type,
    lines,
    run_workers,
    runner_of,
    wait_all_finished,
    wait_finished,
    wait_until,
)

__all__ = ["run_workers"]

DEATHS = {
    "kill": "killed by SIGKILL",
    "terminate": "killed by SIGTERM",
    "segfault": "killed by SIGSEGV",
    "abort": "killed by SIGABRT",
    "exit 0": "exit code 0",
    "exit 3": "exit code 3",
    "exit 255": "exit code 255",
    "group": "killed by SIGKILL",
}
RAISED = {
    "fault.base_exception": "builtins.BaseException",
    "fault.keyboard_interrupt": "builtins.KeyboardInterrupt",
    "fault.system_exit": "builtins.SystemExit",
    "fault.generator_exit": "builtins.GeneratorExit",
}


def test_a_killed_executor_is_settled_within_two_seconds_and_another_attempt_completes(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    task_id = enqueue("fault.until", payload={"path": str(tmp_path / "ran"), "file": str(tmp_path / "go")})
    run_workers("--n", "1")

    runner_of(tmp_path / "ran", attempt=1).kill()
    killed = time.monotonic()
    crashed = wait_until(lambda: Attempt.objects.filter(task_id=task_id).first(), "the crash is settled")
    assert time.monotonic() - killed < 2
    waiting = Task.objects.get(pk=task_id)
    (tmp_path / "go").touch()
    task = wait_finished(task_id)

    assert crashed is not None
    assert (crashed.outcome, crashed.number) == (Attempt.Outcome.CRASHED, 1)
    assert "killed by SIGKILL" in crashed.message
    assert (waiting.status, waiting.waiting_for) == (Status.PENDING, "time")
    assert waiting.run_at is not None
    assert timedelta(seconds=0.9) < waiting.run_at - crashed.ended_at < timedelta(seconds=2.1)
    assert (task.status, task.attempt, task.crashes, task.result) == (Status.COMPLETED, 2, 1, 2)
    assert task.attempted_at is not None
    assert task.attempted_at >= waiting.run_at


def test_however_a_process_dies_the_attempt_has_crashed_and_the_next_one_completes(
    run_workers: RunWorkers,
) -> None:
    ids = {how: enqueue("fault.die", payload={"how": how}) for how in DEATHS}

    worker = run_workers("--n", "2")
    wait_all_finished()

    for how, said in DEATHS.items():
        task = Task.objects.get(pk=ids[how])
        assert (task.status, task.attempt, task.crashes) == (Status.COMPLETED, 2, 1), how
        crashed = Attempt.objects.get(task=task)
        assert (crashed.outcome, said in crashed.message) == (Attempt.Outcome.CRASHED, True), crashed.message
    assert worker.stop() == 0


def test_a_task_that_kills_its_process_three_times_has_failed_and_others_are_unharmed(
    run_workers: RunWorkers,
) -> None:
    poison = [
        enqueue("fault.die", payload={"how": how, "times": 99}) for how in ("kill", "exit 0", "segfault")
    ]
    others = [enqueue("fault.noop") for _ in range(20)]

    worker = run_workers("--n", "2")
    wait_all_finished()

    for task in Task.objects.filter(pk__in=poison):
        assert (task.status, task.attempt, task.crashes, task.max_attempts) == (Status.FAILED, 3, 3, 5)
        assert error_type(task) == "tasks.errors.TaskCrashed"
        assert [attempt.outcome for attempt in task.attempts.all()] == ["crashed"] * 3
    for task in Task.objects.filter(pk__in=others):
        assert (task.status, task.attempt, task.crashes) == (Status.COMPLETED, 1, 0)
    worker.wait_executors(2)
    assert worker.stop() == 0


def test_whatever_a_handler_raises_its_process_lives_on(run_workers: RunWorkers, tmp_path: Path) -> None:
    def record() -> None:
        wait_finished(enqueue("fault.record", payload={"path": str(tmp_path / "ran")}))

    run_workers("--n", "1")
    record()
    ids = {handler: enqueue(handler, max_attempts=1) for handler in RAISED}
    wait_all_finished()
    record()

    for handler, error in RAISED.items():
        task = Task.objects.get(pk=ids[handler])
        assert (task.status, error_type(task), task.crashes) == (Status.FAILED, error, 0)
        assert "Traceback" in Attempt.objects.get(task=task).traceback
    assert len({pid for *_, pid in lines(tmp_path / "ran")}) == 1


def test_what_lay_ready_behind_a_crash_has_used_no_attempt_and_keeps_its_place(
    run_workers: RunWorkers,
) -> None:
    worker = run_workers("--n", "1")
    lifecycle.enqueue([TaskSpec(handler="fault.die")] * 200)  # so that it is known to be short
    wait_all_finished()
    line = [TaskSpec(handler="fault.die", payload={"how": "kill"}), *[TaskSpec(handler="fault.die")] * 40]

    killer, *behind = lifecycle.enqueue(line)
    wait_all_finished()

    tasks = list(Task.objects.filter(pk__in=[task.id for task in behind]))
    assert any(task.fence > 1 for task in tasks), "none was in the hand of the one that died"
    for task in tasks:
        assert (task.status, task.attempt, task.crashes, task.releases) == (Status.COMPLETED, 1, 0, 0)
        assert task.ready_at == behind[0].ready_at
        assert not task.attempts.exists()
    assert Task.objects.get(pk=killer.id).attempt == 2
    assert worker.stop() == 0


def test_what_an_executor_had_not_begun_when_it_died_has_used_no_attempt(run_workers: RunWorkers) -> None:
    worker = run_workers("--n", "1")
    wait_finished(enqueue("fault.noop"))
    [executor] = worker.executors()

    executor.suspend()
    task_id = enqueue("fault.noop")
    wait_until(lambda: Task.objects.filter(pk=task_id, status=Status.PROCESSING).exists(), "it is handed out")
    executor.kill()
    task = wait_finished(task_id)

    assert (task.status, task.attempt, task.crashes, task.releases) == (Status.COMPLETED, 1, 0, 1)
    assert not task.attempts.exists()


def test_what_a_handler_started_ends_with_its_executor(run_workers: RunWorkers, tmp_path: Path) -> None:
    task_id = enqueue("fault.child", payload={"path": str(tmp_path / "ran")}, max_attempts=1)
    worker = run_workers("--n", "1")
    runner = runner_of(tmp_path / "ran", attempt=1)
    [started] = wait_until(runner.children, "a process of the handler's own")
    worker.children()

    runner.kill()
    wait_finished(task_id)

    wait_until(lambda: started not in worker.survivors(), "it ended with the executor")


def test_nobody_pays_when_the_forkserver_dies(run_workers: RunWorkers, tmp_path: Path) -> None:
    ran, go = tmp_path / "ran", tmp_path / "go"
    worker = run_workers("--n", "2")
    worker.wait_executors(2)
    ids = [
        enqueue("fault.until", payload={"path": str(ran), "file": str(go)}, max_attempts=1) for _ in range(2)
    ]
    wait_until(lambda: len(lines(ran)) == 2, "both run")

    first = worker.forkserver()
    first.kill()
    wait_until(lambda: len(lines(ran)) == 4, "both run again")
    go.touch()
    tasks = [wait_finished(task_id) for task_id in ids]

    for task in tasks:
        assert (task.status, task.attempt, task.crashes, task.releases) == (Status.COMPLETED, 1, 0, 1)
        assert not task.attempts.exists()
    assert worker.forkserver() != first
    assert worker.stop() == 0


def test_an_idle_worker_gets_over_the_death_of_its_forkserver_and_executors(run_workers: RunWorkers) -> None:
    worker = run_workers("--n", "2")
    executors = worker.wait_executors(2)

    worker.forkserver().kill()
    wait_until(lambda: not set(executors) & set(worker.executors()), "the executors ended with it")
    assert wait_finished(enqueue("fault.noop")).status == Status.COMPLETED
    for executor in worker.wait_executors(2):
        executor.kill()

    assert wait_finished(enqueue("fault.noop")).status == Status.COMPLETED
    assert worker.stop() == 0


def test_a_process_of_a_handler_hears_signals_as_anywhere_else(run_workers: RunWorkers) -> None:
    task_id = enqueue("fault.terminates")

    run_workers("--n", "1")

    assert wait_finished(task_id).result == {"child": -15, "fork": -15}


def test_a_handler_that_closes_the_files_of_its_process_has_crashed(run_workers: RunWorkers) -> None:
    task_id = enqueue("fault.closes_files", max_attempts=2)

    worker = run_workers("--n", "1")

    assert error_type(wait_finished(task_id)) == "tasks.errors.TaskCrashed"
    assert wait_finished(enqueue("fault.noop")).status == Status.COMPLETED
    assert worker.stop() == 0
