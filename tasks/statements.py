"""The few statements that run once per task, as SQL text.

Built by the ORM they would cost about 4 ms of Python each turn. The text is the same on both
databases, but for the locking clause and the casts in VALUES. States are literals, because a bound
one makes SQLite plan anew each time. Only ``lifecycle`` calls these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from itertools import batched
from operator import itemgetter
from typing import Any
from uuid import UUID

from django.db import connections

Row = tuple[Any, ...]
Key = tuple[UUID, int]  # a task and the fence of a lease on it: one alone proves nothing
BATCH = 256  # rows of one VALUES; SQLite allows 32,766 parameters

# the types of a VALUES column, for PostgreSQL, which cannot guess them
UUID_, INT, TEXT, JSON, TIME = "uuid", "bigint", "text", "jsonb", "timestamptz"


class Book:
    """The hot statements over one database."""

    def __init__(self, alias: str) -> None:
        self._connection = connections[alias]
        self._postgres = self._connection.vendor == "postgresql"

    # -- values on their way in

    def id(self, value: UUID) -> Any:
        return value if self._postgres else value.hex

    def time(self, value: datetime | None) -> Any:
        return self._connection.ops.adapt_datetimefield_value(value)

    # -- statements

    def insert(self, rows: Sequence[Row]) -> None:
        """``rows`` in the order of ``INSERTED``."""
        with self._connection.cursor() as cursor:
            cursor.executemany(_insert(self._postgres), rows)

    def ready_queues(self) -> list[str]:
        """The queues that have ready tasks and are not paused, by name: one index step for each."""
        return [queue for [queue] in self._fetch(READY_QUEUES)]

    def paused_queues(self) -> list[str]:
        return [queue for [queue] in self._fetch("SELECT name FROM queues WHERE paused_at IS NOT NULL")]

    def promote(self, now: datetime, *, limit: int) -> int:
        return len(self._fetch(_promote(self._postgres), (self.time(now), limit)))

    def claim(
        self,
        queue: str,
        handlers: Sequence[str],
        *,
        worker_id: str,
        now: datetime,
        lease_expires_at: datetime,
        limit: int,
        ahead: bool = False,
    ) -> list[Row]:
        """The claimed rows, which begin in the order of ``CLAIMED``, first ready first.

        ``ahead``: they will wait behind others; none on its last attempt then, and looks no further
        than twice the limit for some that have more.
        """
        moment = self.time(now)
        picked = (queue, moment, *handlers, *((2 * limit, limit) if ahead else (limit,)))
        claim = _claim_ahead if ahead else _claim
        rows = self._fetch(
            claim(self._postgres, len(handlers)),
            (*picked, self.time(lease_expires_at), worker_id, moment, moment),
        )
        return sorted(rows, key=_claim_order)  # RETURNING has no order of its own

    def complete(self, rows: Sequence[Row], now: datetime) -> list[bool]:
        """(id, fence, result): completes what is still held. Returns, for each row, whether it was."""
        return self._held(COMPLETE, (UUID_, INT, JSON), rows, self.time(now))

    def settle(self, rows: Sequence[Row]) -> list[bool]:
        """Write decisions, in the order of ``SETTLED``. Returns, for each row, whether it was still held."""
        return self._held(SETTLE, tuple(SETTLED.values()), rows)

    def lock(self, keys: Iterable[Key]) -> dict[Key, bool]:
        """Lock what is still held; key -> whether somebody asked for its end. In id order."""
        return self._asked(_lock(self._postgres), keys)

    def extend(self, keys: Iterable[Key], until: datetime) -> dict[Key, bool]:
        """Prolong what is still held; key -> whether somebody asked for its end."""
        return self._asked(EXTEND, keys, self.time(until))

    def record(self, rows: Sequence[Row]) -> None:
        """Rows of ``attempts``, in the order of ``RECORDED``."""
        with self._connection.cursor() as cursor:
            cursor.executemany(_record(), rows)

    # -- how

    def _fetch(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall()  # type: ignore[no-any-return]  # rows are untyped

    def _asked(self, sql: str, keys: Iterable[Key], *params: Any) -> dict[Key, bool]:
        given = [(self.id(id_), fence) for id_, fence in sorted(keys)]
        rows = self._rows_in_batches(sql, (UUID_, INT), given, *params)
        return {_key(row): row[2] is not None for row in rows}

    def _held(self, sql: str, types: Row, rows: Sequence[Row], *params: Any) -> list[bool]:
        """For each row, by the id and the fence that it begins with, whether the statement changed it."""
        given = sorted(rows, key=_id) if self._postgres else rows  # the order of locks; SQLite has but one
        changed = {row[:2] for row in self._rows_in_batches(sql, types, given, *params)}
        return [row[:2] in changed for row in rows]

    def _rows_in_batches(self, sql: str, types: Row, rows: Sequence[Row], *params: Any) -> Iterator[Row]:
        for batch in batched(rows, BATCH):
            size = _padded(len(batch))
            nobody = (None,) * len(types)
            filled = (*batch, *(nobody,) * (size - len(batch)))
            flat = [value for row in filled for value in row]
            yield from self._fetch(sql.format(values=_values(self._postgres, types, size)), (*flat, *params))


_id = itemgetter(0)


def _key(row: Row) -> Key:
    id_, fence, *_ = row
    return (id_ if isinstance(id_, UUID) else UUID(id_)), fence


def _padded(size: int) -> int:
    """The next power of two: few different texts, so that the databases' statement caches hold."""
    return 1 << (size - 1).bit_length()


@cache
def _values(postgres: bool, types: tuple[str, ...], size: int) -> str:
    marks = [f"%s::{type_}" if postgres else "%s" for type_ in types]
    return ", ".join([f"({', '.join(marks)})"] * size)


# fmt: off
INSERTED = {
    "id": UUID_, "title": TEXT, "handler": TEXT, "args": JSON, "payload": JSON, "owner": TEXT, "queue": TEXT,
    "priority": INT, "tags": JSON, "run_at": TIME, "expires_at": TIME, "max_attempts": INT,
    "timeout_seconds": "double precision", "created_at": TIME, "ready_at": TIME, "waiting_for": TEXT,
}
SETTLED = {
    "id": UUID_, "fence": INT, "status": TEXT, "attempt": INT, "crashes": INT, "releases": INT,
    "ready_at": TIME, "run_at": TIME, "waiting_for": TEXT, "finished_at": TIME, "error": JSON,
}
RECORDED = (
    "task_id", "number", "fence", "outcome", "worker_id", "started_at", "ended_at", "error_type", "message",
    "traceback",
)
CLAIMED = (
    "id", "fence", "handler", "args", "payload", "attempt", "attempts_before", "max_attempts", "crashes",
    "releases", "timeout_seconds", "queue", "priority",
)
# fmt: on


def _claim_order(row: Row) -> tuple[Any, ...]:
    return -row[12], row[13], row[0]


@cache
def _insert(postgres: bool) -> str:
    columns = ", ".join(INSERTED)
    given = _values(postgres, tuple(INSERTED.values()), 1)[1:-1]
    return (
        f"INSERT INTO tasks ({columns}, status, attempt, attempts_before, crashes, releases, fence,"  # noqa: S608 - constants
        f" worker_id) VALUES ({given}, 'pending', 0, 0, 0, 0, 0, '')"
    )


@cache
def _record() -> str:
    marks = ", ".join(["%s"] * len(RECORDED))
    return f"INSERT INTO attempts ({', '.join(RECORDED)}) VALUES ({marks})"  # noqa: S608 - constants


def _locking(postgres: bool) -> str:
    return "FOR UPDATE SKIP LOCKED" if postgres else ""


_READY = "status = 'pending' AND ready_at IS NOT NULL"

# A skip scan: each step asks the index for the next larger name.
READY_QUEUES = f"""
WITH RECURSIVE ready(queue) AS (
  SELECT * FROM (SELECT queue FROM tasks WHERE {_READY} ORDER BY queue LIMIT 1) AS first
  UNION ALL
  SELECT (SELECT queue FROM tasks WHERE {_READY} AND queue > ready.queue ORDER BY queue LIMIT 1)
  FROM ready WHERE ready.queue IS NOT NULL
)
SELECT queue FROM ready
WHERE queue IS NOT NULL AND queue NOT IN (SELECT name FROM queues WHERE paused_at IS NOT NULL)
"""  # noqa: S608 - constants


@cache
def _promote(postgres: bool) -> str:
    return f"""
WITH due AS (
  SELECT id FROM tasks WHERE waiting_for = 'time' AND run_at <= %s
  ORDER BY run_at LIMIT %s {_locking(postgres)}
)
UPDATE tasks SET ready_at = run_at, waiting_for = NULL WHERE id IN (SELECT id FROM due) RETURNING id
"""  # noqa: S608 - constants


@cache
def _claim(postgres: bool, handlers: int) -> str:
    return f"WITH picked AS ({_first_ready(postgres, handlers)}) {_TAKE}"


@cache
def _claim_ahead(postgres: bool, handlers: int) -> str:
    return f"""
WITH head AS ({_first_ready(postgres, handlers)}),
picked AS (SELECT id FROM head WHERE attempt - attempts_before + 1 < max_attempts LIMIT %s)
{_TAKE}"""  # noqa: S608 - constants


def _first_ready(postgres: bool, handlers: int) -> str:
    return f"""
SELECT id, attempt, attempts_before, max_attempts FROM tasks
WHERE {_READY} AND queue = %s AND (expires_at IS NULL OR expires_at > %s)
  AND handler IN ({", ".join(["%s"] * handlers)})
ORDER BY priority DESC, ready_at, id LIMIT %s {_locking(postgres)}
"""  # noqa: S608 - constants


_TAKE = f"""
UPDATE tasks SET status = 'processing', attempt = attempt + 1, fence = fence + 1, lease_expires_at = %s,
  worker_id = %s, attempted_at = %s, started_at = COALESCE(started_at, %s)
WHERE id IN (SELECT id FROM picked)
RETURNING {", ".join(CLAIMED)}, CAST(ready_at AS text)
"""  # noqa: S608 - constants


_HELD = "tasks.id = v.k AND tasks.fence = v.f AND tasks.status = 'processing'"

COMPLETE = f"""
WITH v(k, f, r) AS (VALUES {{values}})
UPDATE tasks SET status = 'completed', result = v.r, error = NULL, lease_expires_at = NULL, finished_at = %s
FROM v WHERE {_HELD} RETURNING id, fence
"""  # noqa: S608 - constants

SETTLE = f"""
WITH v(k, f, new_status, new_attempt, new_crashes, new_releases, new_ready_at, new_run_at, new_waiting_for,
  new_finished_at, new_error) AS (VALUES {{values}})
UPDATE tasks SET status = new_status, attempt = new_attempt, crashes = new_crashes, releases = new_releases,
  ready_at = CASE WHEN new_waiting_for IS NULL THEN COALESCE(new_ready_at, ready_at) END,
  run_at = COALESCE(new_run_at, run_at),
  waiting_for = new_waiting_for, finished_at = new_finished_at, error = COALESCE(new_error, error),
  started_at = CASE WHEN new_attempt > 0 THEN started_at END, lease_expires_at = NULL
FROM v WHERE {_HELD} RETURNING id, fence
"""  # noqa: S608 - constants

# The column itself, not "IS NOT NULL" of it: SQLite 3.40 answers 1 to that in RETURNING, taking it from the
# partial index on cancel_requested_at.
EXTEND = f"""
WITH v(k, f) AS (VALUES {{values}})
UPDATE tasks SET lease_expires_at = %s FROM v WHERE {_HELD} RETURNING id, fence, cancel_requested_at
"""  # noqa: S608 - constants


@cache
def _lock(postgres: bool) -> str:
    return f"""
WITH v(k, f) AS (VALUES {{values}})
SELECT id, fence, cancel_requested_at FROM tasks JOIN v ON {_HELD}
{"ORDER BY id FOR UPDATE OF tasks" if postgres else ""}
"""  # noqa: S608 - constants
