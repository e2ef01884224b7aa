"""How each queue stands, as a row of the overview and of the page of queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from django.utils.safestring import SafeString

from tasks import depths, rollups, stats
from tasks.admin import charts, words
from tasks.depths import Depth
from tasks.models import Queue
from tasks.pending import Situation
from tasks.quantiles import quantile
from tasks.rollups import Counts, Times
from tasks.spans import span
from tasks.tally import MAX_QUEUES, OTHER, RUNS, WAITS


@dataclass(frozen=True, slots=True)
class Number:
    text: str
    any: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    name: str
    ready: Number
    processing: Number
    waiting: Number
    failed: Number
    oldest_for: timedelta  # since when the oldest ready task is ready; none: zero
    waits: Sequence[str]  # the median and the 95th percentile in the last hour; empty: none has
    runs: Sequence[str]
    spark: SafeString
    an_hour: int  # how many tasks it finished in the last one
    workers: int
    paused: Queue | None
    paused_for: str

    @property
    def oldest(self) -> str:
        return span(self.oldest_for) if self.ready.any else ""

    @property
    def stuck(self) -> bool:
        """Ready tasks that nobody will take."""
        return self.ready.any and not self.workers and not self.paused


class Queues:
    """All of them, or the first ones by name; everything is read when it is first asked for, and once."""

    def __init__(self, situation: Situation) -> None:
        self.situation = situation

    @cached_property
    def minutes(self) -> Mapping[str, Mapping[datetime, Counts]]:
        return rollups.by_queue(self.situation.now)

    @cached_property
    def _names(self) -> list[str]:
        running = depths.processing()
        return sorted({*stats.queues_in_use(), *depths.names(), *running, *self.minutes} - {OTHER})

    @property
    def more(self) -> int:
        """How many are not shown."""
        return max(0, len(self._names) - MAX_QUEUES)

    @cached_property
    def depths(self) -> Mapping[str, Depth]:
        return depths.depths(self._names[:MAX_QUEUES])

    @cached_property
    def rows(self) -> list[QueueRow]:
        times = rollups.times(self.situation.now)
        return [self._row(name, depth, times.get(name)) for name, depth in self.depths.items()]

    def _row(self, name: str, depth: Depth, times: Times | None) -> QueueRow:
        now, paused = self.situation.now, self.situation.paused.get(name)
        minutes = self.minutes.get(name, {})
        return QueueRow(
            name=name,
            **{
                what: self._number(getattr(depth, what))
                for what in ("ready", "processing", "waiting", "failed")
            },
            oldest_for=now - depth.oldest_ready_at if depth.oldest_ready_at else timedelta(0),
            waits=_typical(times.waits if times else (), WAITS),
            runs=_typical(times.runs if times else (), RUNS),
            spark=charts.sparkline(rollups.HOUR, minutes, now),
            an_hour=sum(one.completed + one.failed for one in minutes.values()),
            workers=sum(worker.serves(name) for worker in self.situation.living),
            paused=paused,
            paused_for=span(now - paused.paused_at) if paused and paused.paused_at else "",
        )

    def _number(self, number: int) -> Number:
        return Number(words.capped(number, depths.limit_for(self._names)), bool(number))

    def all(self, what: str) -> Number:
        """The sum over all queues."""
        numbers = [getattr(depth, what) for depth in self.depths.values()]
        limit = depths.limit_for(self._names)
        more = "+" if self.more or any(number > limit for number in numbers) else ""
        return Number(f"{sum(min(number, limit) for number in numbers):,}{more}", any(numbers))


def _typical(counts: Sequence[int], ends: Sequence[float]) -> Sequence[str]:
    found = [quantile(counts, ends, share) for share in (0.5, 0.95)]
    return [_seconds(seconds) for seconds in found if seconds is not None]


def _seconds(seconds: float) -> str:
    """Above a minute the buckets are wide: what is interpolated there is told as the guess that it is."""
    if seconds < 0.001:
        return "<1 ms"
    return span(timedelta(seconds=seconds)) if seconds <= 60 else f"~{seconds / 60:.0f} min"
