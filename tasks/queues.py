"""How each queue stands: which ones there are, how many tasks are where in them, and how long those take."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from tasks import clock, depths, lifecycle, rollups, stats
from tasks.depths import Depth
from tasks.grants import Grant
from tasks.logs import event
from tasks.models import Queue
from tasks.models.task import database
from tasks.pending import Situation
from tasks.quantiles import quantile
from tasks.rollups import Counts, Times
from tasks.tally import OTHER, RUNS, WAITS

logger = logging.getLogger(__name__)

PURGE_SECONDS = 10.0  # that one request cancels for; what is left then, another one does
TYPICAL = (0.5, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """``whole``: of all tasks in it; else of one owner's alone, of which no more than ``depth`` is told."""

    name: str
    depth: Depth
    limit: int  # where its numbers end; one more stands for "or more"
    partial: bool = False  # not all tasks were looked at: there may be more of each, and older ones
    paused: Queue | None
    whole: bool = True
    minutes: Mapping[datetime, Counts] = field(default_factory=dict)  # of the last hour
    times: Times | None = None
    workers: int = 0  # that claim from it

    @property
    def capped(self) -> bool:
        depth = self.depth
        numbers = (depth.ready, depth.waiting, depth.processing, depth.failed)
        return self.partial or any(number > self.limit for number in numbers)

    @property
    def last_hour(self) -> Counts:
        return rollups.total(list(self.minutes.values()))

    @property
    def waits(self) -> Sequence[float]:
        """Seconds, the median and the 95th percentile in the last hour; empty: none has."""
        return _typical(self.times.waits if self.times else (), WAITS)

    @property
    def runs(self) -> Sequence[float]:
        return _typical(self.times.runs if self.times else (), RUNS)


class AllQueues:
    """Whosever tasks are in them. Everything is read when it is first asked for, and once."""

    def __init__(self, situation: Situation, *, only: Collection[str] | None = None) -> None:
        """``only``: whoever asks knows of these queues, whether anything else does or not."""
        self.situation = situation
        self._only = None if only is None else sorted(set(only))

    @cached_property
    def minutes(self) -> Mapping[str, Mapping[datetime, Counts]]:
        return rollups.by_queue(self.situation.now)

    @cached_property
    def names(self) -> list[str]:
        """Those that something uses: a task that is pending, runs or has failed, a handler, a worker, what
        happened in the last hour, or a row of its own, which stays once it was paused.
        """
        if self._only is not None:
            return self._only
        used = {*stats.queues_in_use(), *depths.names(), *depths.processing()}
        served = {name for worker in self.situation.living for name in worker.queues or ()}
        return sorted({*used, *served, *(self.minutes.keys() - {OTHER})})

    def unknown(self, names: Collection[str]) -> set[str]:
        """Those that nothing uses: they may be spelled wrongly."""
        strange = set(names) - set(self.names)
        if self._only is not None or not strange:
            return strange
        found = depths.depths(sorted(strange))  # of very many, only the first ones have been named
        return {name for name in strange if found[name] == Depth()}

    def standings(self, names: Sequence[str]) -> list[Standing]:
        times, limit = rollups.times(self.situation.now), depths.limit_for(names)
        return [
            Standing(
                name=name,
                depth=depth,
                limit=limit,
                paused=self.situation.paused.get(name),
                minutes=self.minutes.get(name, {}),
                times=times.get(name),
                workers=sum(worker.serves(name) for worker in self.situation.living),
            )
            for name, depth in depths.depths(names).items()
        ]


class OwnQueues:
    """Those in which one owner's tasks are, with the numbers of these alone: others' are not told of."""

    def __init__(self, situation: Situation, owner: str, *, only: Collection[str] | None = None) -> None:
        self.situation = situation
        self._owner = owner
        self._only = None if only is None else sorted(set(only))

    @cached_property
    def _owned(self) -> tuple[Mapping[str, Depth], bool]:
        return depths.depths_of(self._owner)

    @property
    def names(self) -> list[str]:
        return sorted(self._owned[0]) if self._only is None else self._only

    def unknown(self, names: Collection[str]) -> set[str]:
        return set(names) - set(self.names)

    def standings(self, names: Sequence[str]) -> list[Standing]:
        found, are_all = self._owned
        return [
            Standing(
                name=name,
                depth=found.get(name, Depth()),
                limit=depths.OWNED,
                partial=not are_all,
                paused=self.situation.paused.get(name),
                whole=False,
            )
            for name in names
        ]


def seen_by(grant: Grant, situation: Situation) -> AllQueues | OwnQueues:
    if grant.sees_whole_queues:
        return AllQueues(situation, only=grant.queues)
    return OwnQueues(situation, grant.owner, only=grant.queues)


@dataclass(frozen=True, slots=True)
class Purged:
    cancelled: int
    more: bool  # its time was over, and some are left that were made before it


def purge(name: str, *, by: str) -> Purged:
    """Cancel what is pending in a queue and was made before now, for ``PURGE_SECONDS`` at most."""
    before = clock.now(database())  # as it stamps the tasks, whatever this host's clock says
    deadline = time.monotonic() + PURGE_SECONDS
    reason = f"Queue {name} was purged{f' by {by}' if by else ''}."
    total, more = 0, False
    while moved := lifecycle.purge(name, before=before, reason=reason):
        total += moved
        if time.monotonic() > deadline:
            more = stats.any_pending(name, before=before)
            break
    if total:
        event(logger, logging.INFO, "queue.purged", queue=name, by=by or None, cancelled=total)
    return Purged(total, more=more)


def _typical(counts: Sequence[int], ends: Sequence[float]) -> Sequence[float]:
    found = [quantile(counts, ends, share) for share in TYPICAL]
    return [seconds for seconds in found if seconds is not None]
