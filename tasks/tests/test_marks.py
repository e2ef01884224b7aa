"""Which leases the executors of a worker have begun, in the file that outlives them."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured

from tasks.contract import Lease
from tasks.worker import marks as module
from tasks.worker.lock import WorkerLock, _folder_of_ours
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


def test_the_places_of_those_that_ended_are_given_to_others(lock: WorkerLock) -> None:
    """A worker that recycles its executors for a year must not fill the disk."""
    for _ in range(5):
        lock.leave(lock.marks())
    size = os.fstat(lock.file).st_size

    for _ in range(20):
        lock.leave(lock.marks())

    assert os.fstat(lock.file).st_size == size


def test_what_those_have_begun_that_just_ended_is_still_known(tmp_path: Path) -> None:
    """Their outcomes may not be written yet, however often all executors are replaced meanwhile."""
    lock = WorkerLock(str(tmp_path / "tasks.db"), "host:1:one", executors=3)
    running = [lock.marks() for _ in range(3)]
    for _ in range(10):  # for long, and all was written
        lock.leave(running.pop(0))
        running.append(lock.marks())
    begun = [a_lease() for _ in running]
    for marks, lease in zip(running, begun, strict=True):
        marks.begin(lease)

    for marks in running:
        lock.leave(marks)
        lock.marks().begin(a_lease())

    known = lock.begun_by("host:1:one")
    assert known is not None
    assert {lease.key for lease in begun} <= known


def test_what_a_worker_has_begun_is_known_while_it_lives_and_unknown_elsewhere(
    lock: WorkerLock, tmp_path: Path
) -> None:
    lease = a_lease()
    lock.marks().begin(lease)
    other = WorkerLock(str(tmp_path / "tasks.db"), "host:2:two")

    assert other.begun_by("host:1:one") == frozenset([lease.key])
    assert other.begun_by("elsewhere:1:one") is None


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


@pytest.mark.parametrize("theirs", ["a link", "open to all", "a file"])
def test_a_folder_of_locks_that_others_may_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    """With PostgreSQL they are in the folder for temporary files, where anybody may make one first."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"taskservice-{os.geteuid()}"
    if theirs == "a link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    elif theirs == "a file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777)

    with pytest.raises(ImproperlyConfigured, match="only you can write to"):
        _folder_of_ours()


def test_the_folder_of_locks_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert _folder_of_ours() == _folder_of_ours()
    assert _folder_of_ours().stat().st_mode & 0o777 == 0o700
