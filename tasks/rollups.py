"""What happened in each queue, by the minute and by ten: written along with the totals, read for charts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.db import connections
from django.db.models import QuerySet, Sum

from tasks import tally
from tasks.models import Rollup
from tasks.models.rollup import BUCKETS
from tasks.models.task import database
from tasks.states import BACK_OFF, CANCEL, COMPLETE, EXPIRE, FAIL, STOP
from tasks.tally import Cell

COUNTS = ("created", "claimed", "completed", "failed", "retried", "cancelled")
_COLUMN_OF = {
    COMPLETE.name: "completed",
    FAIL.name: "failed",
    EXPIRE.name: "failed",
    BACK_OFF.name: "retried",
    STOP.name: "cancelled",
    CANCEL.name: "cancelled",
}
_HISTOGRAM_OF = {tally.WAIT: "wait", tally.RUN_IN: "run"}
_COLUMNS = (*COUNTS, *(f"{kind}_{number}" for kind, size in BUCKETS.items() for number in range(size)))
_KEY = ("seconds", "begins_at", "queue")

_ADD = f"""
INSERT INTO rollups ({", ".join((*_KEY, *_COLUMNS))})
VALUES ({", ".join(["%s"] * (len(_KEY) + len(_COLUMNS)))})
ON CONFLICT ({", ".join(_KEY)}) DO UPDATE SET
  {", ".join(f"{column} = rollups.{column} + excluded.{column}" for column in _COLUMNS)}
"""  # noqa: S608 - constants


class Period(NamedTuple):
    """A chart looks back over so many stretches of the same length."""

    seconds: int
    stretches: int

    @property
    def length(self) -> timedelta:
        return timedelta(seconds=self.seconds * self.stretches)

    def begins(self, now: datetime) -> list[datetime]:
        """When its stretches begin, the oldest first; the last one is not over."""
        last = _beginning(now, self.seconds)
        return [last - timedelta(seconds=self.seconds * back) for back in range(self.stretches)][::-1]


HOUR, DAY = Period(60, 60), Period(600, 144)  # nobody reads the minutes of a day: they would be 1,440
PERIODS = (HOUR, DAY)


class Counts(NamedTuple):
    """Of tasks, in some stretch of time."""

    created: int = 0
    claimed: int = 0
    completed: int = 0
    failed: int = 0
    retried: int = 0
    cancelled: int = 0


NOTHING = Counts()


@dataclass(frozen=True, slots=True)
class Times:
    """How long tasks waited and ran: for each bucket of ``tally.WAITS`` and ``tally.RUNS``, how many."""

    waits: tuple[int, ...]
    runs: tuple[int, ...]


# -- writing


def add(cells: Mapping[Cell, float], *, now: datetime) -> None:
    """In the caller's transaction. What happened counts for the minute in which it is written down."""
    rows: defaultdict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_COLUMNS, 0))
    for cell, count in cells.items():
        if column := _column(cell):
            rows[cell.queue][column] += int(count)
    connection = connections[database()]
    adapt = connection.ops.adapt_datetimefield_value
    given = [
        (period.seconds, adapt(_beginning(now, period.seconds)), queue, *rows[queue].values())
        for period in PERIODS
        for queue in sorted(rows)  # two that add at once must not wait for each other
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_ADD, given)


def _column(cell: Cell) -> str | None:
    match cell.name:
        case tally.CREATED | tally.CLAIMED:
            return cell.name
        case tally.SETTLED | tally.MOVED:
            return _COLUMN_OF.get(cell.transition)
        case tally.WAIT | tally.RUN_IN if cell.detail != "sum":
            return f"{_HISTOGRAM_OF[cell.name]}_{cell.detail}"
        case _:
            return None


def _beginning(now: datetime, seconds: int) -> datetime:
    return datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC)


def prune(*, now: datetime) -> None:
    """What no chart shows any more."""
    for period in PERIODS:
        rows = Rollup.objects.using(database()).filter(seconds=period.seconds)
        old = rows.filter(begins_at__lt=now - period.length - timedelta(seconds=period.seconds))
        if old.exists():
            old.delete()


# -- reading


def by_queue(now: datetime) -> dict[str, dict[datetime, Counts]]:
    """For each queue in which something happened in the last hour: its minutes."""
    found: defaultdict[str, dict[datetime, Counts]] = defaultdict(dict)
    for queue, begins_at, *counts in _rows(HOUR, now).values_list("queue", "begins_at", *COUNTS):
        found[queue][begins_at] = Counts(*counts)
    return dict(found)


def times(now: datetime) -> dict[str, Times]:
    """For each queue in which something happened in the last hour: how long its tasks waited and ran."""
    buckets = _COLUMNS[len(COUNTS) :]
    sums = _rows(HOUR, now).values("queue").annotate(**{f"all_{name}": Sum(name) for name in buckets})
    return {
        queue: Times(tuple(given[: BUCKETS["wait"]]), tuple(given[BUCKETS["wait"] :]))
        for queue, *given in sums.values_list("queue", *(f"all_{name}" for name in buckets))
    }


def last_day(now: datetime) -> dict[datetime, Counts]:
    """Of all queues together."""
    sums = _rows(DAY, now).values("begins_at").annotate(**{f"all_{name}": Sum(name) for name in COUNTS})
    rows = sums.values_list("begins_at", *(f"all_{name}" for name in COUNTS))
    return {begins_at: Counts(*counts) for begins_at, *counts in rows}


def together(queues: Mapping[str, Mapping[datetime, Counts]]) -> dict[datetime, Counts]:
    """Of all queues, minute by minute."""
    minutes: defaultdict[datetime, list[Counts]] = defaultdict(list)
    for begins_at, counts in _flat(queues):
        minutes[begins_at].append(counts)
    return {begins_at: total(many) for begins_at, many in minutes.items()}


def total(many: list[Counts]) -> Counts:
    return Counts(*map(sum, zip(*many, strict=True))) if many else NOTHING


def _flat(queues: Mapping[str, Mapping[datetime, Counts]]) -> Iterator[tuple[datetime, Counts]]:
    for minutes in queues.values():
        yield from minutes.items()


def _rows(period: Period, now: datetime) -> QuerySet[Rollup]:
    since = period.begins(now)[0]
    return Rollup.objects.using(database()).filter(seconds=period.seconds, begins_at__gte=since)
