"""How a worker ends: signals to real processes, while they are idle, busy, stubborn or only starting."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models import Task, Worker
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

GRACE = "TASKSERVICE_GRACE_SECONDS"


def assert_clean_end(worker: RunningWorker, *, within: float) -> None:
    """Exit code 0 in time, and nothing is left of it: no process, no row, no lock."""
    worker.children()
    since = time.monotonic()
    assert worker.wait() == 0
    assert time.monotonic() - since < within
    assert_gone(worker)
    assert not Worker.objects.filter(pid=worker.pid).exists()
    assert not lock_files(worker)


def assert_handed_back(task_id: UUID) -> None:
    """Its run counts as none, but for one release."""
    task = Task.objects.get(pk=task_id)
    assert (task.status, task.attempt, task.releases) == (Status.PENDING, 0, 1)
    assert task.ready_at is not None
    assert not task.attempts.exists()


def until(tmp_path: Path) -> UUID:
    """A task that begins to run and ends when there is a file ``go``."""
    return enqueue("fault.until", payload={"path": str(tmp_path / "ran"), "file": str(tmp_path / "go")})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_an_idle_worker_ends_at_once(run_workers: RunWorkers, number: signal.Signals) -> None:
    worker = run_workers("--n", "2")
    wait_finished(enqueue("fault.noop"))

    worker.signal(number)

    assert_clean_end(worker, within=4)


@pytest.mark.parametrize("moment", [lock_files, RunningWorker.executors], ids=["locked", "executor"])
def test_a_worker_that_is_only_starting_ends_as_well(
    run_workers: RunWorkers, moment: Callable[[RunningWorker], object]
) -> None:
    task_id = enqueue("fault.noop")
    worker = run_workers("--n", "3")
    wait_until(lambda: moment(worker), "it has come so far")

    worker.signal()

    assert_clean_end(worker, within=8)
    assert Task.objects.get(pk=task_id).status in {Status.PENDING, Status.COMPLETED}


def test_a_worker_whose_handlers_are_still_loading_ends_as_well(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    loading = tmp_path / "loading"
    worker = run_workers("--n", "1", TASKSERVICE_APPS="tasks.tests.sluggish", SLUGGISH=str(loading))
    wait_until(loading.exists, "it loads the handlers")

    worker.signal()

    assert_clean_end(worker, within=4)


def test_what_runs_gets_the_grace_and_nothing_new_begins(run_workers: RunWorkers, tmp_path: Path) -> None:
    running = until(tmp_path)
    worker = run_workers("--n", "2", **{GRACE: "60"})
    runner_of(tmp_path / "ran")

    worker.signal()  # the same one, sent twice
    worker.signal()
    worker.wait_event("worker.stopping")
    later = enqueue("fault.noop")
    worker.signal(signal.SIGINT)
    time.sleep(1.2)  # an executor is idle all the while
    assert worker.process.poll() is None
    assert Task.objects.get(pk=later).fence == 0
    (tmp_path / "go").touch()

    assert_clean_end(worker, within=4)
    task = Task.objects.get(pk=running)
    assert (task.status, task.attempt, task.releases) == (Status.COMPLETED, 1, 0)
    assert Task.objects.get(pk=later).fence == 0


def test_a_signal_to_every_process_is_one_to_the_dispatcher(run_workers: RunWorkers, tmp_path: Path) -> None:
    """As an init system or a terminal sends it."""
    task_id = until(tmp_path)
    worker = run_workers("--n", "2", **{GRACE: "60"})
    runner_of(tmp_path / "ran")

    for number in (signal.SIGTERM, signal.SIGINT):
        for process in [psutil.Process(worker.pid), *worker.children()]:
            process.send_signal(number)
    worker.wait_event("worker.stopping")
    (tmp_path / "go").touch()

    assert_clean_end(worker, within=4)
    task = Task.objects.get(pk=task_id)
    assert (task.status, task.attempt, task.releases) == (Status.COMPLETED, 1, 0)


def test_what_overruns_the_grace_is_handed_back_and_another_worker_completes_it(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    task_id = until(tmp_path)
    worker = run_workers("--n", "1", **{GRACE: "1"})
    runner_of(tmp_path / "ran")

    worker.signal()
    assert_clean_end(worker, within=4)
    assert_handed_back(task_id)
    (tmp_path / "go").touch()
    run_workers("--n", "1")

    task = wait_finished(task_id)
    assert (task.status, task.attempt, task.releases, task.result) == (Status.COMPLETED, 1, 1, 1)
    assert [word for word, *_ in lines(tmp_path / "ran")] == ["start", "start", "end"]


def test_whoever_ignores_the_interrupt_is_killed_after_five_seconds_and_handed_back(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    ids = [enqueue(handler) for handler in ("fault.stubborn", "fault.deaf", "fault.joins")]
    ids.append(enqueue("fault.child", payload={"path": str(tmp_path / "ran")}))
    worker = run_workers("--n", "4", **{GRACE: "1"})
    wait_until(lambda: not Task.objects.filter(status=Status.PENDING).exists(), "all run")
    runner_of(tmp_path / "ran")

    worker.signal()

    assert_clean_end(worker, within=1 + 10)
    for task_id in ids:
        assert_handed_back(task_id)


def test_leases_handed_ahead_go_back_without_an_attempt(run_workers: RunWorkers, tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    def record(seconds: float) -> TaskSpec:
        return TaskSpec(handler="fault.record", payload={"path": str(ran), "seconds": seconds})

    worker = run_workers("--n", "1", **{GRACE: "60"})
    lifecycle.enqueue([record(0)] * 200)  # so that it is known to be short
    wait_all_finished()
    [slow, *behind] = lifecycle.enqueue([record(2), *[record(0)] * 40])
    wait_until(lambda: str(slow.id) in ran.read_text(), "the slow one has begun")

    worker.signal()

    assert_clean_end(worker, within=8)
    assert Task.objects.get(pk=slow.id).status == Status.COMPLETED
    tasks = list(Task.objects.filter(pk__in=[task.id for task in behind]))
    assert any(task.fence for task in tasks), "none was in its hand"
    for task in tasks:
        assert (task.status, task.attempt, task.releases) == (Status.PENDING, 0, 0)
        assert task.ready_at == behind[0].ready_at
        assert task.started_at is None


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGQUIT], [signal.SIGTERM, signal.SIGTERM], [signal.SIGINT, signal.SIGQUIT]],
    ids=lambda signals: "-".join(number.name for number in signals),
)
def test_a_second_signal_or_sigquit_ends_it_at_once(
    run_workers: RunWorkers, tmp_path: Path, signals: list[signal.Signals]
) -> None:
    ids = [until(tmp_path), enqueue("fault.deaf")]
    worker = run_workers("--n", "3", **{GRACE: "60"})
    wait_until(lambda: not Task.objects.filter(status=Status.PENDING).exists(), "all run")
    runner_of(tmp_path / "ran")

    worker.signal(signals[0])
    if len(signals) > 1:
        worker.wait_event("worker.stopping")
        time.sleep(
            1.2 if signals[1] == signal.SIGQUIT else 6
        )  # longer than what settling may take at the end
        worker.signal(signals[1])

    assert_clean_end(worker, within=4)
    for task_id in ids:
        assert_handed_back(task_id)


@pytest.mark.slow
def test_five_stops_in_a_row_lose_nothing_and_run_nothing_twice(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    spec = TaskSpec(handler="fault.record", payload={"path": str(ran), "seconds": 0.02})
    made = lifecycle.enqueue([spec] * 400)

    for _ in range(5):
        worker = run_workers("--n", "3", **{GRACE: "60"})
        before = len(lines(ran))
        wait_until(lambda before=before: len(lines(ran)) > before + 30, "it works")  # type: ignore[misc]
        worker.signal()
        assert_clean_end(worker, within=4)
    run_workers("--n", "3")
    wait_all_finished()

    wanted = {str(task.id) for task in made}
    for word in ("start", "end"):
        seen = [task_id for kind, task_id, *_ in lines(ran) if kind == word]
        assert len(seen) == len(wanted)
        assert set(seen) == wanted
    assert not Task.objects.exclude(status=Status.COMPLETED, attempt=1, releases=0).exists()


def test_a_terminal_that_closes_asks_for_an_end_with_grace(run_workers: RunWorkers, tmp_path: Path) -> None:
    """SIGHUP goes to all that were started from it, executors and forkserver included."""
    task_id = until(tmp_path)
    worker = run_workers("--n", "1")
    runner_of(tmp_path / "ran")
    for process in [*worker.children(), psutil.Process(worker.pid)]:
        process.send_signal(signal.SIGHUP)
    worker.wait_event("worker.stopping")
    (tmp_path / "go").touch()

    assert_clean_end(worker, within=10)
    task = Task.objects.get(pk=task_id)
    assert (task.status, task.attempt, task.releases) == (Status.COMPLETED, 1, 0)
