"""Backpressure: a queue that is full takes nothing more over HTTP until its workers have caught up."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tasks import stats
from tasks.conf import config
from tasks.contract import TaskSpec
from tasks.errors import QueueFull

LOOK_SECONDS = 30.0  # after which a queue is counted again,
LOOK_CLOSER_SECONDS = 1.0  # or so soon when it is nearly full, or was
NEARLY = 0.8
QUEUES_KNOWN = 1_000  # clients may name any number of them


@dataclass(slots=True)
class Level:
    """How full a queue was when it was counted, and what this process has added since."""

    pending: int
    at: float  # monotonic

    def is_old(self, limit: int, now: float) -> bool:
        patience = LOOK_CLOSER_SECONDS if self.pending > NEARLY * limit else LOOK_SECONDS
        return now - self.at > patience


class Levels:
    """Counted seldom: to count a queue takes longer than to add to it. So a limit is kept roughly."""

    def __init__(self, count: Callable[..., int] = stats.pending_in) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._levels: dict[str, Level] = {}

    def expect_room(self, specs: Iterable[TaskSpec]) -> None:
        """For so many more tasks. Raises QueueFull, and nothing is counted in then."""
        if limit := config().max_pending:
            wanted = Counter(spec.queue for spec in specs)
            for queue in wanted:
                self._refresh(queue, limit)
            self._add(wanted, limit)

    def take_back(self, specs: Iterable[TaskSpec]) -> None:
        """They were not made."""
        with self._lock:
            for spec in specs:
                if level := self._levels.get(spec.queue):
                    level.pending = max(0, level.pending - 1)

    def _refresh(self, queue: str, limit: int) -> None:
        now = time.monotonic()
        with self._lock:
            level = self._levels.get(queue)
            if level is not None:
                if not level.is_old(limit, now):
                    return
                level.at = now  # the others go by the old one while this one counts
        if level is not None:
            self._look(queue, limit)
            return
        with self._counting:  # the others wait for the first: all at once, each would take as long as all
            if queue not in self._levels:
                self._look(queue, limit)

    def _look(self, queue: str, limit: int) -> None:
        pending = self._count(queue, most=limit)
        with self._lock:
            if len(self._levels) >= QUEUES_KNOWN:
                self._levels.clear()
            self._levels[queue] = Level(pending, time.monotonic())

    def _add(self, wanted: Mapping[str, int], limit: int) -> None:
        with self._lock:
            known = {queue: self._levels[queue] for queue in wanted if queue in self._levels}
            for queue, level in known.items():
                if level.pending + wanted[queue] > limit:
                    raise QueueFull(queue, limit)
            for queue, level in known.items():
                level.pending += wanted[queue]
