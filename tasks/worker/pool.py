"""The executors of one worker: started from the forkserver, and buried."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import random
import signal
import socket
import termios
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from tasks.worker import executor
from tasks.worker.handle import Executor
from tasks.worker.lock import WorkerLock
from tasks.worker.marks import Marks

PRELOAD = "tasks.worker.preload"
JITTER = 0.1  # of the limits for recycling, so that executors don't end together


class Pool:
    """The executors of one worker."""

    def __init__(self, *, limits: executor.Limits, recycle_after_tasks: int, lock: WorkerLock | None) -> None:
        self._limits = limits
        self._recycle_after = recycle_after_tasks
        self._lock = lock
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([PRELOAD])
        self.executors: list[Executor] = []

    def __iter__(self) -> Iterator[Executor]:
        return iter(self.executors)

    def start_one(self) -> Executor:
        """Raises OSError or EOFError when none can be started now, or when the forkserver dies meanwhile."""
        marks = None if self._lock is None else self._lock.marks()
        try:
            process, channel = self._start(marks)
        except (OSError, EOFError):
            self._leave(marks)
            raise
        started = Executor(process, channel, tasks_limit=self._tasks_limit(), marks=marks)
        self.executors.append(started)
        return started

    def _start(self, marks: Marks | None) -> tuple[Any, socket.socket]:
        ours, theirs = socket.socketpair()
        process = self._context.Process(
            target=executor.main, args=(theirs, marks, self._limits), name="executor"
        )
        try:
            with theirs:
                process.start()
        except (OSError, EOFError):
            ours.close()
            raise
        return process, ours

    def _tasks_limit(self) -> int:
        if not self._recycle_after:
            return 2**63
        return max(1, int(self._recycle_after * (1 + JITTER * random.uniform(-1, 1))))  # noqa: S311

    def remove(self, gone: Executor) -> int:
        """Forget one that has ended, with whatever it left in its group. Returns its exit code."""
        self.executors.remove(gone)
        gone.process.join()
        exit_code = int(gone.process.exitcode)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(gone.pid, signal.SIGKILL)
        self._leave(gone.marks)
        gone.channel.close()
        gone.process.close()
        return exit_code

    def _leave(self, marks: Marks | None) -> None:
        if self._lock is not None and marks is not None:
            self._lock.leave(marks)

    def forkserver_died(self, gone: Executor) -> bool:
        """Whether it was the forkserver that ended, and this child only with it.

        The sentinel is a pipe: a living forkserver writes the exit code into it, a dead one cannot.
        """
        waiting = fcntl.ioctl(gone.process.sentinel, termios.FIONREAD, bytes(4))
        return not any(waiting)
