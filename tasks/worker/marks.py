"""Which leases the executors of a worker have begun, in a file that outlives them all."""

from __future__ import annotations

import os
from contextlib import suppress
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any
from uuid import UUID

from tasks.contract import Lease, LeaseKey

BOOT = Path("/proc/sys/kernel/random/boot_id")
HEAD_BYTES = 64  # the boot that the marks are of: they are not flushed, and a power cut takes some
FENCE_BYTES = 8
MARK_BYTES = 16 + FENCE_BYTES  # a task's id, and the fence
KEPT = 1024  # marks of one executor: far more than it can begin between two commits of its dispatcher
PLACE_BYTES = KEPT * MARK_BYTES
UNUSED = bytes(MARK_BYTES)


def open_marks(file: int) -> None:
    """Begin a file of marks."""
    os.pwrite(file, _this_boot(), 0)


class Marks:
    """An executor's place in the file, open in the executor and in its dispatcher."""

    def __init__(self, file: int, place: int) -> None:
        self._file = file
        self._start = HEAD_BYTES + place * PLACE_BYTES
        self.place = place
        self._next = 0

    def __reduce__(self) -> Any:
        return _received, (DupFd(self._file), self.place)

    def reserve(self) -> None:
        """Raises OSError when the disk has no room: later, a mark that is missing would be a lie."""
        os.posix_fallocate(self._file, self._start, PLACE_BYTES)

    def begin(self, lease: Lease) -> None:
        """Write down that it is about to run: a microsecond, and it outlives the process."""
        with suppress(OSError):  # a broken disk; the database will say so
            os.pwrite(self._file, _mark_of(lease), self._start + self._next % KEPT * MARK_BYTES)
        self._next += 1

    def has(self, lease: Lease) -> bool:
        """Whether it has begun this lease."""
        return lease.key in _keys(os.pread(self._file, PLACE_BYTES, self._start))


def begun_in(file: int) -> frozenset[LeaseKey] | None:
    """The leases that have been begun; None: nobody knows, because the machine was started anew since."""
    data = os.pread(file, os.fstat(file).st_size, 0)
    if data[:HEAD_BYTES].rstrip(b"\0") != _this_boot():
        return None
    return _keys(data[HEAD_BYTES:])


def _keys(data: bytes) -> frozenset[LeaseKey]:
    marks = (data[at : at + MARK_BYTES] for at in range(0, len(data) - MARK_BYTES + 1, MARK_BYTES))
    return frozenset(
        (UUID(bytes=mark[:-FENCE_BYTES]), int.from_bytes(mark[-FENCE_BYTES:]))
        for mark in marks
        if mark != UNUSED
    )


def _mark_of(lease: Lease) -> bytes:
    return lease.task_id.bytes + lease.fence.to_bytes(FENCE_BYTES)


def _this_boot() -> bytes:
    return BOOT.read_bytes().strip()[:HEAD_BYTES]


def _received(file: Any, place: int) -> Marks:
    return Marks(file.detach(), place)
