"""How a worker is: its loop tells, its row shows it, and what that row asks of it comes back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil


@dataclass(slots=True)
class Vitals:
    """Shared by threads; each member is written by one of them, and whole at once."""

    executors: Sequence[int] = ()  # their pids
    recycled: int = 0  # executors that were replaced because they were worn
    drains: bool = False  # somebody wants it to end when what it runs is done

    memory_mb: int | None = None  # when it was last measured

    def measure(self) -> None:
        """Of the dispatcher and its executors; what they share counts once, where the kernel tells.

        Not in the ledger's thread: the kernel walks all pages of each, up to 20 ms for one that is large.
        """
        self.memory_mb = round(sum(map(_held_by, (os.getpid(), *self.executors))) / 2**20)


def _held_by(pid: int) -> int:
    with suppress(OSError, ValueError, StopIteration), open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:")) * 1024
    with suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0  # it has just ended
