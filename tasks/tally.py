"""What this process has counted since it last wrote that down; ``totals`` keeps the sums of all processes."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tasks.contract import Lease

MAX_QUEUES = 100  # that are counted by name; clients choose those
MAX_HANDLERS = 1_000
OTHER = "other"

# seconds, the upper ends of a histogram's buckets; above the last: all else
WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
RUNS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)

CREATED, CLAIMED, SETTLED, WAIT, RUN = "created", "claimed", "settled", "wait", "run"
REAPED, CRASHES, RENEWED, LOST, DATABASE = "reaped", "crashes", "renewed", "lost", "database"
RUN_IN, MOVED = "run-in", "moved"  # by queue: run times; and what left it without an attempt
ONLY_BY_MINUTE = frozenset({RUN_IN, MOVED})  # for ``rollups``, not for the sums


class Cell(NamedTuple):
    """What is counted: for a histogram ``detail`` is the number of a bucket, or "sum"."""

    name: str
    queue: str = ""
    handler: str = ""
    detail: str = ""
    transition: str = ""


class Bounded:
    """So many names as they come, and one for all others."""

    def __init__(self, known: Iterable[str] = (), *, most: int = MAX_QUEUES) -> None:
        self._known = set(known)
        self._most = most

    def name(self, name: str) -> str:
        if name in self._known:
            return name
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(name)
        return name


class Tally:
    """Safe for threads; each call is for many tasks where many come at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[Cell, float] = defaultdict(float)
        self._queues = Bounded()
        self._handlers = Bounded(most=MAX_HANDLERS)  # of other processes: here they are code
        self.busy = 0  # executors that run a task now

    def created(self, made: Sequence[tuple[str, str]]) -> None:
        """(queue, handler) of each."""
        with self._lock:
            for (queue, handler), count in Counter(made).items():
                self._counts[Cell(CREATED, self._queues.name(queue), handler)] += count

    @property
    def empty(self) -> bool:
        return not self._counts

    def add(self, counts: Mapping[Cell, float]) -> None:
        """What another process has counted; its queues and handlers are no more than so many here, too."""
        with self._lock:
            for cell, count in counts.items():
                queue, handler = self._queues.name(cell.queue), cell.handler
                handler = self._handlers.name(handler) if handler else ""
                self._counts[cell._replace(queue=queue, handler=handler)] += count

    def claimed(self, leases: Sequence[Lease]) -> None:
        with self._lock:
            for (queue, handler), count in Counter((lease.queue, lease.handler) for lease in leases).items():
                self._counts[Cell(CLAIMED, self._queues.name(queue), handler)] += count
            waits: dict[str, list[float]] = defaultdict(list)
            for lease in leases:
                waits[lease.queue].append(lease.waited)
            for queue, seconds in waits.items():
                self._observe(Cell(WAIT, self._queues.name(queue)), seconds, WAITS)

    def settled(self, ended: Mapping[tuple[str, str, str, str], int]) -> None:
        """(queue, handler, outcome, transition) -> how many."""
        with self._lock:
            for (queue, handler, outcome, transition), count in ended.items():
                self._counts[Cell(SETTLED, self._queues.name(queue), handler, outcome, transition)] += count

    def moved(self, transition: str, queues: Iterable[str]) -> None:
        """Pending tasks that ended without an attempt: the queue of each."""
        with self._lock:
            for queue, count in Counter(queues).items():
                self._counts[Cell(MOVED, self._queues.name(queue), transition=transition)] += count

    def ran(self, seconds: Mapping[tuple[str, str], Sequence[float]]) -> None:
        """By queue and handler, of each run."""
        with self._lock:
            for (queue, handler), runs in seconds.items():
                in_queue = Cell(RUN_IN, self._queues.name(queue))
                self._observe(Cell(RUN, handler=handler), runs, RUNS, also=in_queue)

    def count(self, name: str, count: int = 1, *, detail: str = "") -> None:
        if count:
            with self._lock:
                self._counts[Cell(name, detail=detail)] += count

    def _observe(
        self, cell: Cell, seconds: Sequence[float], buckets: Sequence[float], *, also: Cell | None = None
    ) -> None:
        for bucket, count in Counter(bisect_left(buckets, one) for one in seconds).items():
            for seen_as in (cell, also) if also else (cell,):
                self._counts[seen_as._replace(detail=str(bucket))] += count
        self._counts[cell._replace(detail="sum")] += sum(seconds)

    def take(self) -> Mapping[Cell, float]:
        """What has gathered; from now on it gathers anew."""
        with self._lock:
            taken, self._counts = self._counts, defaultdict(float)
        return taken

    def put_back(self, taken: Mapping[Cell, float]) -> None:
        """It could not be written down."""
        with self._lock:
            for cell, count in taken.items():
                self._counts[cell] += count


here = Tally()
