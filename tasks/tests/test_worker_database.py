"""A database that is locked, full, read-only or empty: the worker says so, lives on and loses nothing."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from uuid import UUID

import pytest
from django.db import connection

from tasks.states import Status
from tasks.tests.disks import fill, small_disk_at
from tasks.tests.locks import gate, write_lock
from tasks.tests.workers import (
    RunningWorker,
    RunWorkers,
    assert_gone,
    enqueue,
    lines,
    lock_files,
    run_workers,
    runner_of,
    wait_finished,
    wait_until,
)

__all__ = ["run_workers"]

pytestmark = pytest.mark.sqlite
BACK_WITHIN = 5  # seconds after the database is there again


def database_path() -> Path:
    return Path(str(connection.settings_dict["NAME"]))


@contextmanager
def both(path: Path) -> Iterator[None]:
    """As a writer of ours holds them."""
    with gate(path), write_lock(path):
        yield


def until(tmp_path: Path) -> UUID:
    return enqueue("fault.until", payload={"path": str(tmp_path / "ran"), "file": str(tmp_path / "go")})


@pytest.mark.parametrize(
    ("lock", "failures", "lease"), [(both, 1, "2"), pytest.param(write_lock, 2, "60", marks=pytest.mark.slow)]
)
def test_a_writer_that_holds_the_lock_for_long_costs_no_outcome(
    run_workers: RunWorkers,
    tmp_path: Path,
    lock: Callable[[Path], AbstractContextManager[None]],
    failures: int,
    lease: str,
) -> None:
    task_id = until(tmp_path)
    worker = run_workers("--n", "1", TASKSERVICE_LEASE_SECONDS=lease)
    runner_of(tmp_path / "ran")

    with lock(database_path()):
        (tmp_path / "go").touch()
        worker.wait_event("database.failed", count=failures)
        wait_until(lambda: len(lines(tmp_path / "ran")) == 2, "it has ended meanwhile")
        before = worker.cpu_seconds()
        time.sleep(1)
        assert worker.cpu_seconds() - before < 0.3
    since = time.monotonic()
    task = wait_finished(task_id)

    assert time.monotonic() - since < BACK_WITHIN
    assert (task.status, task.attempt, task.fence, task.result) == (Status.COMPLETED, 1, 1, 1)
    assert not task.attempts.exists()
    assert len(worker.events("database.failed")) <= failures + 2
    assert len(worker.wait_event("database.recovered")) == 1
    assert worker.stop() == 0


@pytest.mark.slow
def test_a_worker_that_cannot_hand_back_ends_in_time_and_the_next_one_takes_over(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    task_id = until(tmp_path)
    worker = run_workers("--n", "1", TASKSERVICE_GRACE_SECONDS="1", TASKSERVICE_LEASE_SECONDS="60")
    runner_of(tmp_path / "ran")

    with write_lock(database_path()):
        since = time.monotonic()
        assert worker.stop() == 1
        assert time.monotonic() - since < 1 + 10
    assert_gone(worker)
    assert lock_files(worker)
    (tmp_path / "go").touch()
    run_workers("--n", "1", TASKSERVICE_LEASE_SECONDS="60")

    assert wait_finished(task_id).status == Status.COMPLETED


@pytest.fixture
def small_disk(tmp_path: Path, transactional_db: None) -> Iterator[Path]:
    with small_disk_at(tmp_path / "disk", size="4m") as disk:
        yield disk


def copy_database(to: Path) -> None:
    with closing(sqlite3.connect(database_path())) as source:
        source.execute("VACUUM INTO ?", [str(to)])


def statuses(path: Path) -> set[tuple[str, int]]:
    with closing(sqlite3.connect(path)) as reader:
        return set(reader.execute("SELECT status, attempt FROM tasks"))


def test_a_full_disk_costs_no_outcome(run_workers: RunWorkers, small_disk: Path, tmp_path: Path) -> None:
    until(tmp_path)
    for _ in range(50):
        enqueue("fault.sleep", payload={"seconds": 0.01}, priority=-1)
    path = small_disk / "tasks.db"
    copy_database(path)
    worker = run_workers("--n", "1", DB_PATH=str(path))
    runner_of(tmp_path / "ran")

    fill(small_disk / "filler")
    (tmp_path / "go").touch()
    worker.wait_event("database.failed", count=2)
    assert worker.process.poll() is None
    (small_disk / "filler").unlink()

    wait_until(lambda: statuses(path) == {("completed", 1)}, "all completed")
    assert worker.stop() == 0


def ends_with_a_sentence(worker: RunningWorker) -> str:
    assert worker.wait() == 1
    assert "Traceback" not in worker.output()
    [sentence] = worker.output().splitlines()
    return sentence


@pytest.mark.parametrize("used_before", [False, True])
def test_a_read_only_database_ends_the_start_with_a_sentence(
    run_workers: RunWorkers, small_disk: Path, used_before: bool
) -> None:
    """The files beside one that was used before are there, and can be read."""
    path = small_disk / "tasks.db"
    copy_database(path)
    with closing(sqlite3.connect(path)) if used_before else nullcontext() as user:
        if user is not None:
            user.execute("PRAGMA journal_mode=WAL")
            user.execute("CREATE TABLE more (id)")
            for name in ("tasks.db-wal", "tasks.db-shm"):  # else the last one to close takes them along
                shutil.copy(small_disk / name, small_disk / f"{name}-kept")
    for kept in small_disk.glob("*-kept"):
        kept.rename(str(kept).removesuffix("-kept"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    sentence = ends_with_a_sentence(run_workers("--n", "1", DB_PATH=str(path)))

    assert "database" in sentence


def test_a_database_without_tables_ends_the_start_with_a_sentence(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    sentence = ends_with_a_sentence(run_workers("--n", "1", DB_PATH=str(tmp_path / "empty.db")))

    assert "migrate" in sentence
