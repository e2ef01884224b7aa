"""How many tasks of each queue are where: counted by indexes, and no further than needed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import connections

from tasks.models import Task
from tasks.models.task import database
from tasks.states import Status
from tasks.tally import MAX_QUEUES

COUNTED, COUNTED_OF_MANY = 10_000, 1_000  # where counting ends; one more stands for "or more"
COUNTED_IN_ALL = 40_000  # a page of all queues is to be quick
OWNED = 10_000  # of one owner's tasks, the newest are looked at

_READY = "status = 'pending' AND ready_at IS NOT NULL"
_WAITING = "status = 'pending' AND ready_at IS NULL"
_FAILED = "status = 'failed'"


def _number(which: str) -> str:
    return (
        f"(SELECT count(*) FROM (SELECT 1 FROM tasks WHERE {which} AND queue = named.name LIMIT %s) AS found)"  # noqa: S608
    )


# The first of each priority is the oldest of it; a step of the index finds the next lower priority.
_OLDEST = f"""(
  WITH RECURSIVE step(priority) AS (
    SELECT * FROM (
      SELECT priority FROM tasks WHERE {_READY} AND queue = named.name ORDER BY priority DESC LIMIT 1
    ) AS first
    UNION ALL
    SELECT (SELECT priority FROM tasks WHERE {_READY} AND queue = named.name AND priority < step.priority
            ORDER BY priority DESC LIMIT 1)
    FROM step WHERE step.priority IS NOT NULL
  )
  SELECT min((
    SELECT ready_at FROM tasks WHERE {_READY} AND queue = named.name AND priority = step.priority
    ORDER BY ready_at, id LIMIT 1
  )) FROM step
)"""  # noqa: S608 - constants

_DEPTHS = f"""
WITH named(name) AS ({{names}})
SELECT named.name, {_number(_READY)}, {_number(_WAITING)}, {_number(_FAILED)}, {_OLDEST} FROM named
"""  # noqa: S608 - constants


def _names(which: str) -> str:
    """Each step asks the index for the next larger name."""
    return f"""
WITH RECURSIVE step(queue) AS (
  SELECT * FROM (SELECT queue FROM tasks WHERE {which} ORDER BY queue LIMIT 1) AS first
  UNION ALL
  SELECT (SELECT queue FROM tasks WHERE {which} AND queue > step.queue ORDER BY queue LIMIT 1)
  FROM step WHERE step.queue IS NOT NULL
)
SELECT queue FROM step WHERE queue IS NOT NULL LIMIT {MAX_QUEUES}
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """``ready``, ``waiting`` (for a time, or for a handler) and ``failed`` end at the limit and one more."""

    ready: int = 0
    waiting: int = 0
    failed: int = 0
    processing: int = 0
    oldest_ready_at: datetime | None = None


def names() -> set[str]:
    """The queues in which tasks wait or have failed; with very many, the first ones of each."""
    found: set[str] = set()
    with connections[database()].cursor() as cursor:
        for which in (_WAITING, _FAILED):
            cursor.execute(_names(which))
            found.update(name for [name] in cursor.fetchall())
    return found


def limit_for(queues: Sized) -> int:
    """Where counting ends: sooner where there are many queues, and always at full thousands."""
    share = COUNTED_IN_ALL // max(1, len(queues)) // COUNTED_OF_MANY * COUNTED_OF_MANY
    return min(COUNTED, max(COUNTED_OF_MANY, share))


def depths(queues: Sequence[str]) -> dict[str, Depth]:
    if not queues:
        return {}
    running = processing()
    most = limit_for(queues) + 1
    names = "VALUES " + ", ".join(["(%s)"] * len(queues))
    with connections[database()].cursor() as cursor:
        cursor.execute(_DEPTHS.format(names=names), [*queues, most, most, most])
        rows = cursor.fetchall()
    return {
        queue: Depth(
            ready=ready,
            waiting=waiting,
            failed=failed,
            processing=running[queue],
            oldest_ready_at=_moment(oldest),
        )
        for queue, ready, waiting, failed, oldest in rows
    }


def processing() -> Counter[str]:
    """By queue. They are few: what is in the hands of executors."""
    held = Task.objects.using(database()).filter(status=Status.PROCESSING, lease_expires_at__isnull=False)
    return Counter(held.order_by("lease_expires_at").values_list("queue", flat=True)[: COUNTED + 1])


def depths_of(owner: str) -> tuple[dict[str, Depth], bool]:
    """Of one owner's newest tasks: the queues in which they are; and whether these are all it has."""
    rows = Task.objects.using(database()).of_owner(owner).order_by("-pk")
    found = list(rows.values_list("queue", "status", "ready_at")[: OWNED + 1])
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    oldest: dict[str, datetime] = {}
    for queue, status, ready_at in found[:OWNED]:
        counts[queue][_place(status, ready_at)] += 1
        if status == Status.PENDING and ready_at is not None:
            oldest[queue] = min(ready_at, oldest.get(queue, ready_at))
    owned = {
        queue: Depth(
            ready=count["ready"],
            waiting=count["waiting"],
            failed=count[Status.FAILED],
            processing=count[Status.PROCESSING],
            oldest_ready_at=oldest.get(queue),
        )
        for queue, count in counts.items()
    }
    return owned, len(found) <= OWNED


def _place(status: str, ready_at: datetime | None) -> str:
    if status != Status.PENDING:
        return status
    return "waiting" if ready_at is None else "ready"


def _moment(text: datetime | str | None) -> datetime | None:
    """SQLite keeps times as texts, in UTC."""
    moment = datetime.fromisoformat(text) if isinstance(text, str) else text
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
