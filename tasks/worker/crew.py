"""The executors come and go: started, replaced when they end, retired when they are worn."""

from __future__ import annotations

import logging
import os
import select
import selectors
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from tasks.logs import event
from tasks.worker.handle import Executor
from tasks.worker.pool import Pool
from tasks.worker.vitals import Vitals

logger = logging.getLogger("tasks.dispatcher")

START_PAUSE = 0.5  # seconds, doubled with each executor that ends before it was ready
START_TRIES = 8
FIRST_START_TRIES = 3  # when none was ever ready, waiting will hardly help
END_SECONDS = 2.0  # for those that are told to stop, at the end

On = Callable[[Executor], Any]


class Crew:
    """Keeps the number of executors, and the selector informed of them."""

    def __init__(
        self,
        pool: Pool,
        selector: selectors.BaseSelector,
        *,
        recycle_above_mb: int,
        vitals: Vitals | None = None,
    ) -> None:
        self._pool = pool
        self._selector = selector
        self._recycle_above_mb = recycle_above_mb
        self._vitals = vitals or Vitals()
        self._failed_starts = 0
        self._was_ready = False  # one of them, once
        self._start_at = 0.0  # monotonic; after an executor that ended before it was ready
        self.on_word: On  # called when an executor has said something
        self.on_end: On  # called when it has ended

    def __iter__(self) -> Iterator[Executor]:
        return iter(self._pool)

    @property
    def busy(self) -> int:
        """How many run a task."""
        return sum(executor.head is not None for executor in self)

    @property
    def hopeless(self) -> bool:
        """Executors end before they are ready, again and again."""
        return self._failed_starts >= (START_TRIES if self._was_ready else FIRST_START_TRIES)

    def next_start(self) -> float:
        """When a start that failed is tried again (monotonic); infinity: there is none."""
        return self._start_at if self._start_at > time.monotonic() else float("inf")

    # -- they come

    def start(self, count: int) -> None:
        for _ in range(count):
            try:
                executor = self._pool.start_one()
            except (OSError, EOFError) as error:
                event(logger, logging.ERROR, "executor.not-started", error=repr(error))
                self._failed_start()
                return
            read = selectors.EVENT_READ
            self._selector.register(executor.channel, read, partial(self.on_word, executor))
            self._selector.register(executor.process.sentinel, read, partial(self.on_end, executor))

    def keep_up(self, count: int, now: float) -> None:
        """Replace what has ended."""
        missing = count - len(self._pool.executors)
        if missing > 0 and now >= self._start_at:
            self._start_at = 0.0
            self.start(missing)

    def is_ready(self, executor: Executor) -> None:
        executor.is_ready()
        self._was_ready = True
        self._failed_starts = 0

    def _failed_start(self) -> None:
        """Wait longer each time; of those that were started together the first one counts."""
        if not self._start_at:
            self._failed_starts += 1
            self._start_at = time.monotonic() + START_PAUSE * 2**self._failed_starts
            if self.hopeless:
                event(logger, logging.ERROR, "worker.gave-up", failed_starts=self._failed_starts)

    # -- they are worn

    def retire_worn(self) -> None:
        self._vitals.executors = tuple(executor.pid for executor in self)
        for executor in self:
            if executor.ready and executor.worn(self._recycle_above_mb):
                self.retire(executor)

    def retire(self, executor: Executor) -> None:
        """It gets nothing more, and is stopped once its line is empty."""
        if not executor.retiring:
            executor.retiring = True
            self._vitals.recycled += 1
            event(logger, logging.INFO, "executor.recycled", pid=executor.pid)

    def stop_retired(self) -> None:
        for executor in self:
            if executor.retiring and not executor.line and not executor.stopped:
                executor.stop()

    # -- they go

    def hang_up_if_ended(self, executor: Executor) -> None:
        """It is ending, or its handler has closed the channel: either way nothing will come any more."""
        if executor.hung_up:
            self._selector.unregister(executor.channel)
            executor.kill_group()  # one that ends by itself has its exit code already

    def bury(self, executor: Executor) -> tuple[str, bool]:
        """Forget one that has ended. Returns how it ended, and whether only because the forkserver did."""
        if not executor.hung_up:
            self._selector.unregister(executor.channel)
        self._selector.unregister(executor.process.sentinel)
        with_forkserver = self._pool.forkserver_died(executor)
        pid = executor.pid
        how = _how(self._pool.remove(executor))
        if with_forkserver:
            _see_the_end_of(pid)
        if not (executor.ready or executor.killed_for or with_forkserver):
            self._failed_start()
        if executor.line or not executor.ready:
            event(logger, logging.WARNING, "executor.ended", pid=pid, how=how)
        return how, with_forkserver

    def listen_for_space(self, executor: Executor) -> None:
        """While not all could be sent, also hear when there is room again."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if executor.unsent else 0)
        key = self._selector.get_key(executor.channel)
        if key.events != events:
            self._selector.modify(executor.channel, events, key.data)

    def close(self) -> None:
        """End all executors; those that don't listen by force."""
        for executor in self:
            executor.stop()
            executor.flush()
        deadline = time.monotonic() + END_SECONDS
        for executor in list(self):
            executor.process.join(max(0.0, deadline - time.monotonic()))
            if executor.process.exitcode is None:
                executor.kill_group()
            self._pool.remove(executor)


def _see_the_end_of(pid: int) -> None:
    """A dead forkserver is heard of before the executor, which is killed, has ended.

    Its task must not begin elsewhere while it still holds what it has open. That takes
    milliseconds, or longer with much memory, and is worth a wait.
    """
    with suppress(OSError):  # it is gone; a system without these files
        file = os.pidfd_open(pid)
        try:
            select.select([file], [], [], END_SECONDS)
        finally:
            os.close(file)


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"
