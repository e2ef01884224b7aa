"""Proof of life on one SQLite host: each worker, with its executors, holds an flock on a file of its own."""

from __future__ import annotations

import fcntl
import glob
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.reduction import DupFd
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured

from tasks.contract import Lease

FENCE_BYTES = 8
MARK_BYTES = 16 + FENCE_BYTES  # a task's id, and the fence

Key = tuple[UUID, int]
Bury = Callable[[str, frozenset[Key]], bool]  # the worker's id, what had begun; True: nothing is left of it


class WorkerLock:
    """``<db>-worker-<id>``. The lock is free only when the dispatcher and all its executors are dead.

    In the file stands which lease each executor began last: if all die at once, what else they
    had in hand was never begun.
    """

    def __init__(self, database_path: str, worker_id: str) -> None:
        """Raises ImproperlyConfigured where no file can be made."""
        self._prefix = f"{database_path}-worker-"
        self._marks = 0
        self.path = self._prefix + worker_id
        try:
            self.file = _locked(self.path)
        except OSError as error:
            raise ImproperlyConfigured(
                f"A worker needs a file beside the database, and cannot make {self.path}: {error.strerror}."
            ) from error

    def close(self) -> None:
        os.close(self.file)

    def remove(self) -> None:
        """When nothing is left in its name: else the next worker needs to find it."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)

    def mark(self) -> Mark:
        """A place in the file, for a new executor."""
        self._marks += 1
        return Mark(self.file, self._marks)

    def for_each_dead(self, bury: Bury) -> None:
        """``bury`` each worker whose lock is free."""
        for path in glob.glob(glob.escape(self._prefix) + "*"):
            if path != self.path:
                _if_free(path, partial(bury, path.removeprefix(self._prefix)))


class Mark:
    """An executor's place in the lock file of its worker, open in both."""

    def __init__(self, file: int, place: int) -> None:
        self._file = file
        self._place = place

    def __reduce__(self) -> Any:
        return _unpacked, (DupFd(self._file), self._place)

    def begin(self, lease: Lease) -> None:
        """Write down that it is about to run: a microsecond, and it outlives the process."""
        with suppress(OSError):  # a full disk: should all die now, it passes for one that never began
            os.pwrite(self._file, _mark_of(lease), self._place * MARK_BYTES)

    def is_at(self, lease: Lease) -> bool:
        """Whether this is the lease that was begun last."""
        return os.pread(self._file, MARK_BYTES, self._place * MARK_BYTES) == _mark_of(lease)


def _mark_of(lease: Lease) -> bytes:
    return lease.task_id.bytes + lease.fence.to_bytes(FENCE_BYTES)


def _unpacked(file: Any, place: int) -> Mark:
    return Mark(file.detach(), place)


def _begun(file: int) -> frozenset[Key]:
    data = os.pread(file, os.fstat(file).st_size, 0)
    marks = [data[at : at + MARK_BYTES] for at in range(0, len(data), MARK_BYTES)]
    return frozenset(
        (UUID(bytes=mark[:-FENCE_BYTES]), int.from_bytes(mark[-FENCE_BYTES:]))
        for mark in marks
        if len(mark) == MARK_BYTES
    )


def _locked(path: str) -> int:
    """The file, made and locked; made anew if somebody took it for a dead worker's meanwhile."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(file)):
                return file
        os.close(file)


def _if_free(path: str, act: Callable[[frozenset[Key]], bool]) -> None:
    with suppress(FileNotFoundError, PermissionError):  # somebody else was faster; another user's
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if act(_begun(file)):
                os.unlink(path)
        except BlockingIOError:  # it lives
            pass
        finally:
            os.close(file)
