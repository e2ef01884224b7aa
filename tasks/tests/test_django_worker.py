"""Handlers that Django code enqueues, run by a real worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.tasks import TaskResultStatus

from tasks.context import AnyResult
from tasks.tests.shop import tasks as jobs
from tasks.tests.workers import RunningWorker, RunWorkers, lines, run_workers, wait_until

__all__ = ["run_workers"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def signals(tmp_path: Path) -> Path:
    return tmp_path / "signals"


@pytest.fixture
def worker(run_workers: RunWorkers, signals: Path) -> RunningWorker:
    return run_workers("--n", "1", TASKSERVICE_APPS="tasks.tests.shop", SHOP_SIGNALS=str(signals))


def ended(result: AnyResult) -> AnyResult:
    def is_finished() -> bool:
        result.refresh()
        return result.is_finished

    wait_until(is_finished, f"{result.task.name} finished")
    return result


@pytest.mark.usefixtures("worker")
def test_results_come_back_from_sync_and_async_handlers() -> None:
    doubled = jobs.double.enqueue(21)
    doubled_async = jobs.double_async.enqueue(number=21)

    assert ended(doubled).return_value == ended(doubled_async).return_value == 42
    assert doubled.attempts == 1
    assert doubled.worker_ids != [""]


@pytest.mark.usefixtures("worker")
def test_a_handler_is_told_who_it_is() -> None:
    told = jobs.who_am_i.enqueue()
    looked_up = jobs.look_up_myself.enqueue()

    assert ended(told).return_value == [told.id, 1, 1]
    assert ended(looked_up).return_value == [TaskResultStatus.RUNNING, 1, True]


@pytest.mark.usefixtures("worker")
def test_signals_are_sent_by_the_process_that_runs_the_handler(signals: Path) -> None:
    chained = ended(jobs.fail_then_chain.enqueue(21))
    last: Any = ended(jobs.double.get_result(chained.return_value))
    failed = ended(jobs.fail.enqueue())

    assert (chained.attempts, len(chained.errors), last.return_value) == (2, 1, 42)
    assert [error.exception_class for error in failed.errors] == [ValueError]
    assert lines(signals) == [
        ["started", "fail_then_chain", "1", "RUNNING"],
        ["started", "fail_then_chain", "2", "RUNNING"],
        ["finished", "fail_then_chain", "2", "SUCCESSFUL"],
        ["started", "double", "1", "RUNNING"],
        ["finished", "double", "1", "SUCCESSFUL"],
        ["started", "fail", "1", "RUNNING"],
        ["finished", "fail", "1", "FAILED"],
    ]
