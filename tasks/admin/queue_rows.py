"""How each queue stands, as a row of the overview and of the page of queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from django.utils.safestring import SafeString

from tasks import depths, rollups
from tasks.admin import charts, words
from tasks.models import Queue
from tasks.pending import Situation
from tasks.queues import AllQueues, Standing
from tasks.rollups import Counts
from tasks.spans import span
from tasks.tally import MAX_QUEUES


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
    """All of them, or the first ones by name."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._all = AllQueues(situation)

    @property
    def minutes(self) -> Mapping[str, Mapping[datetime, Counts]]:
        return self._all.minutes

    @property
    def more(self) -> int:
        """How many are not shown."""
        return max(0, len(self._all.names) - MAX_QUEUES)

    @cached_property
    def _standings(self) -> list[Standing]:
        return self._all.standings(self._all.names[:MAX_QUEUES])

    @cached_property
    def rows(self) -> list[QueueRow]:
        return [self._row(standing) for standing in self._standings]

    def _row(self, standing: Standing) -> QueueRow:
        now, depth, paused = self._situation.now, standing.depth, standing.paused
        return QueueRow(
            name=standing.name,
            **{
                what: Number(words.capped(number, standing.limit), bool(number))
                for what in ("ready", "processing", "waiting", "failed")
                for number in (getattr(depth, what),)
            },
            oldest_for=now - depth.oldest_ready_at if depth.oldest_ready_at else timedelta(0),
            waits=[_seconds(seconds) for seconds in standing.waits],
            runs=[_seconds(seconds) for seconds in standing.runs],
            spark=charts.sparkline(rollups.HOUR, standing.minutes, now),
            an_hour=standing.last_hour.completed + standing.last_hour.failed,
            workers=standing.workers,
            paused=paused,
            paused_for=span(now - paused.paused_at) if paused and paused.paused_at else "",
        )

    def all(self, what: str) -> Number:
        """The sum over all queues."""
        numbers = [getattr(standing.depth, what) for standing in self._standings]
        limit = depths.limit_for(self._standings)
        more = "+" if self.more or any(number > limit for number in numbers) else ""
        return Number(f"{sum(min(number, limit) for number in numbers):,}{more}", any(numbers))


def _seconds(seconds: float) -> str:
    """Above a minute the buckets are wide: what is interpolated there is told as the guess that it is."""
    if seconds < 0.001:
        return "<1 ms"
    return span(timedelta(seconds=seconds)) if seconds <= 60 else f"~{seconds / 60:.0f} min"
