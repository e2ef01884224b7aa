"""Which leases the executors of a worker have begun, in the file that outlives them."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.contract import Lease
from tasks.worker import marks as module
from tasks.worker.lock import WorkerLock
from tasks.worker.marks import KEPT, begun_in


@pytest.fixture
def lock(tmp_path: Path) -> WorkerLock:
    return WorkerLock(str(tmp_path / "tasks.db"), "host:1:one")


def a_lease() -> Lease:
    return Lease(task_id=uuid4(), fence=7, handler="demo.echo", args="[]", payload="{}", attempt=1)


def test_at_first_nothing_has_begun(lock: WorkerLock) -> None:
    lock.marks()

    assert begun_in(lock.file) == frozenset()


def test_what_each_executor_has_begun_stays_known(lock: WorkerLock) -> None:
    """Not only its last one: an outcome that was not settled yet must not pass for a run that never began."""
    one, other = lock.marks(), lock.marks()
    leases = [a_lease() for _ in range(5)]

    for number, lease in enumerate(leases):
        (one if number % 2 else other).begin(lease)

    assert begun_in(lock.file) == frozenset(lease.key for lease in leases)
    assert one.has(leases[1])
    assert not one.has(leases[0])


def test_many_more_are_kept_than_an_executor_begins_between_two_commits(lock: WorkerLock) -> None:
    marks = lock.marks()
    leases = [a_lease() for _ in range(KEPT + 10)]

    for lease in leases:
        marks.begin(lease)

    assert begun_in(lock.file) == frozenset(lease.key for lease in leases[10:])


def test_another_fence_is_another_lease(lock: WorkerLock) -> None:
    marks, lease = lock.marks(), a_lease()
    marks.begin(lease)

    assert not marks.has(lease._replace(fence=8))


def test_the_place_of_one_that_ended_is_given_to_the_next(lock: WorkerLock) -> None:
    """A worker that recycles its executors for a year must not fill the disk."""
    first = lock.marks()
    size = os.fstat(lock.file).st_size

    for _ in range(10):
        lock.leave(first)
        first = lock.marks()

    assert os.fstat(lock.file).st_size == size


def test_after_a_power_cut_nobody_knows_what_had_begun(
    lock: WorkerLock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock.marks().begin(a_lease())
    other_boot = tmp_path / "boot_id"
    other_boot.write_text("another\n")

    monkeypatch.setattr(module, "BOOT", other_boot)

    assert begun_in(lock.file) is None


def test_a_file_that_lost_its_beginning_tells_nothing(lock: WorkerLock) -> None:
    os.ftruncate(lock.file, 0)

    assert begun_in(lock.file) is None
