"""One worker for all tests of a module: to start one takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from tasks.tests.antics import tasks as _antics  # noqa: F401 - so that this process knows them
from tasks.tests.workers import RunningWorker, wait_until

EXECUTORS = 8
APPS = "tasks.tests.faults,tasks.tests.antics"


@pytest.fixture(scope="module")
def standing_worker(
    environment_of_children: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningWorker]:
    env = {**environment_of_children, "TASKSERVICE_APPS": APPS, "TASKSERVICE_GRACE_SECONDS": "1"}
    log = tmp_path_factory.mktemp("standing") / "worker.log"
    worker = RunningWorker(env, log, "--n", str(EXECUTORS))
    yield worker
    worker.destroy()


@pytest.fixture
def worker(transactional_db: None, standing_worker: RunningWorker) -> Iterator[RunningWorker]:
    """A worker with eight idle executors that knows ``fault.*`` and ``antic.*``; it outlives the test."""
    standing_worker.wait_executors(EXECUTORS)
    before = len(standing_worker.output())
    yield standing_worker
    print(standing_worker.output()[before:])  # shown when the test has failed
    assert standing_worker.process.poll() is None, "the worker has ended"


def pids(worker: RunningWorker) -> set[int]:
    """Of its executors, once there are as many as there should be."""
    return {process.pid for process in worker.wait_executors(EXECUTORS)}


def wait_gone(*gone: int) -> None:
    """Wait until none of these processes lives any more."""
    for pid in gone:
        wait_until(lambda pid=pid: not _lives(pid), f"process {pid} is gone")  # type: ignore[misc]


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
