"""How things stand now, for a monitoring system: read from the database, by its indexes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.db import connections
from django.db.models import Count, Sum

from tasks import clock, lifecycle, stats
from tasks.models import Queue
from tasks.models.task import database
from tasks.sqlite.base import DatabaseWrapper
from tasks.states import Status
from tasks.tally import MAX_QUEUES

COUNTED = 100_000  # ready tasks of a queue; one more stands for "or more"
COUNTED_IN_ALL = 200_000  # a scrape is to be quick, however many queues are long
STEP = 1_000

_READY = "status = 'pending' AND ready_at IS NOT NULL AND queue = %s"

# A skip scan, as that of the claim: each step asks the index for the next lower priority, and the first of a
# priority is the oldest of it.
_OLDEST = f"""
WITH RECURSIVE step(priority) AS (
  SELECT * FROM (SELECT priority FROM tasks WHERE {_READY} ORDER BY priority DESC LIMIT 1) AS first
  UNION ALL
  SELECT (SELECT priority FROM tasks WHERE {_READY} AND priority < step.priority
          ORDER BY priority DESC LIMIT 1)
  FROM step WHERE step.priority IS NOT NULL
)
SELECT min((
  SELECT ready_at FROM tasks WHERE {_READY} AND priority = step.priority ORDER BY ready_at, id LIMIT 1
)) FROM step
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    ready: dict[str, int] = field(default_factory=dict)  # by queue
    oldest_ready_seconds: dict[str, float] = field(default_factory=dict)
    paused: Sequence[str] = ()
    processing: int = 0
    workers: int = 0
    executors: int = 0
    busy: int = 0
    wal_bytes: int | None = None  # None: not SQLite


def measure() -> Gauges:
    alias = database()
    now = clock.now(alias)
    queues = _shown_queues()
    ready = _ready(queues)
    found = lifecycle.living(now=now).aggregate(
        count=Count("pk"), executors=Sum("executors"), busy=Sum("busy")
    )
    connection = connections[alias]
    return Gauges(
        ready=ready,
        oldest_ready_seconds={queue: _age(queue, now) if ready[queue] else 0.0 for queue in queues},
        paused=sorted(
            Queue.objects.using(alias).filter(paused_at__isnull=False).values_list("name", flat=True)
        ),
        processing=stats.count(Status.PROCESSING) or 0,
        workers=found["count"],
        executors=found["executors"] or 0,
        busy=found["busy"] or 0,
        wal_bytes=connection.wal_bytes() if isinstance(connection, DatabaseWrapper) else None,
    )


def _ready(queues: Sequence[str]) -> dict[str, int]:
    """At first each may have the same share; what short queues leave of theirs is for the long ones."""
    most = _share(COUNTED_IN_ALL, len(queues))
    ready = {queue: stats.ready_in(queue, most=most) for queue in queues}
    long = [queue for queue, count in ready.items() if count > most]
    left = COUNTED_IN_ALL - sum(count for count in ready.values() if count <= most)
    if long and (more := _share(left, len(long))) > most:
        ready |= {queue: stats.ready_in(queue, most=more) for queue in long}
    return ready


def _share(budget: int, queues: int) -> int:
    """At full thousands, so that the one more can be told from a count."""
    return min(COUNTED, budget // max(1, queues) // STEP * STEP)


def _shown_queues() -> list[str]:
    """The first ones by name: clients choose those names."""
    return stats.queues_in_use()[:MAX_QUEUES]


def _age(queue: str, now: datetime) -> float:
    """Seconds since the oldest ready task of a queue is ready."""
    with connections[database()].cursor() as cursor:
        cursor.execute(_OLDEST, [queue] * 3)
        [since] = cursor.fetchone()
    if since is None:
        return 0.0
    moment = datetime.fromisoformat(since) if isinstance(since, str) else since
    return max(0.0, (now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))).total_seconds())
