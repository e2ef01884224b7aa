"""The few statements that run once per task, as SQL text; ``book.Book`` runs them.

Built by the ORM they would cost about 4 ms of Python each turn. The text is the same on both
databases, but for the locking clause and the casts in VALUES. States are literals, because a bound
one makes SQLite plan anew each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

# the types of a VALUES column, for PostgreSQL, which cannot guess them
UUID_, INT, TEXT, JSON, JSONB, TIME = "uuid", "bigint", "text", "json", "jsonb", "timestamptz"


@cache
def rows(postgres: bool, types: tuple[str, ...], size: int) -> str:
    """So many rows. On PostgreSQL more than one are arrays, a parameter for each column: in a list of values
    the driver would search for its marks each time, which takes ten times as long as all the rest.
    """
    if postgres and size > 1:
        return f"SELECT * FROM unnest({', '.join(f'%s::{type_}[]' for type_ in types)})"  # noqa: S608 - constants
    marks = ", ".join(f"%s::{type_}" if postgres else "%s" for type_ in types)
    return "VALUES " + ", ".join([f"({marks})"] * size)


# fmt: off
INSERTED = {
    "id": UUID_, "title": TEXT, "handler": TEXT, "args": JSON, "payload": JSON, "owner": TEXT, "queue": TEXT,
    "priority": INT, "tags": JSONB, "run_at": TIME, "expires_at": TIME, "max_attempts": INT,
    "timeout_seconds": "double precision", "created_at": TIME, "ready_at": TIME, "waiting_for": TEXT,
    "traceparent": TEXT,
}
KEYED = {  # the further columns of a task with a unique key
    "unique_key": TEXT, "unique_while": TEXT, "unique_until": TIME, "unique_fence": INT,
}
REPLACED = {  # what a task that is replaced takes over from the one that was asked for
    **{name: type_ for name, type_ in INSERTED.items() if name not in ("id", "owner", "created_at")},
    "unique_while": TEXT, "unique_until": TIME,
}
SETTLED = {
    "id": UUID_, "fence": INT, "status": TEXT, "attempt": INT, "crashes": INT, "releases": INT,
    "ready_at": TIME, "run_at": TIME, "waiting_for": TEXT, "finished_at": TIME, "error": JSON,
    "fingerprint": TEXT,
}
RECORDED = (
    "task_id", "number", "fence", "outcome", "worker_id", "started_at", "ended_at", "error_type", "message",
    "traceback", "fingerprint",
)
CLAIMED = (
    "id", "fence", "handler", "CAST(args AS text)", "CAST(payload AS text)", "attempt", "attempts_before",
    "max_attempts", "crashes", "releases", "timeout_seconds", "queue", "priority",
)
# fmt: on


@cache
def insert(postgres: bool, size: int) -> str:
    return _insert(postgres, INSERTED, size)


@cache
def insert_keyed(postgres: bool, size: int) -> str:
    """No row where another task has the key. On PostgreSQL it waits for one who is just taking it."""
    return f"{_insert(postgres, INSERTED | KEYED, size)} ON CONFLICT DO NOTHING"


def _insert(postgres: bool, types: Mapping[str, str], size: int) -> str:
    return f"""
INSERT INTO tasks ({", ".join(types)},
  status, attempt, attempts_before, crashes, releases, fence, worker_id)
SELECT given.*, 'pending', 0, 0, 0, 0, 0, ''
FROM ({rows(postgres, (*types.values(),), size)}) AS given WHERE true
"""  # noqa: S608 - constants


@cache
def record() -> str:
    marks = ", ".join(["%s"] * len(RECORDED))
    return f"INSERT INTO attempts ({', '.join(RECORDED)}) VALUES ({marks})"  # noqa: S608 - constants


def _among(postgres: bool, found: str) -> str:
    """On PostgreSQL no join, of which a plan that is kept may have chosen a kind for a smaller table."""
    ids = f"(SELECT id FROM {found})"  # noqa: S608 - constants
    return f"id = ANY(ARRAY{ids})" if postgres else f"id IN {ids}"


def _locking(postgres: bool) -> str:
    return "FOR UPDATE SKIP LOCKED" if postgres else ""


_READY = "status = 'pending' AND ready_at IS NOT NULL"

# A skip scan: each step asks the index for the next larger name.
_SCAN = f"""
WITH RECURSIVE ready(queue) AS (
  SELECT * FROM (SELECT queue FROM tasks WHERE {_READY} ORDER BY queue LIMIT 1) AS first
  UNION ALL
  SELECT (SELECT queue FROM tasks WHERE {_READY} AND queue > ready.queue ORDER BY queue LIMIT 1)
  FROM ready WHERE ready.queue IS NOT NULL
)"""  # noqa: S608 - constants
_READY_QUEUES = """
SELECT queue FROM ready
WHERE queue IS NOT NULL AND queue NOT IN (SELECT name FROM queues WHERE paused_at IS NOT NULL)
"""
READY_QUEUES = f"{_SCAN}{_READY_QUEUES}"
NEXT_DUE = "SELECT run_at FROM tasks WHERE waiting_for = 'time' ORDER BY run_at LIMIT 1"
# In one: on PostgreSQL each statement is a way to the server and back.
SIGHT = f"{_SCAN} SELECT now(), ({NEXT_DUE}), ARRAY({_READY_QUEUES})"
ASKED_TO_STOP = """
SELECT id FROM tasks WHERE worker_id = %s AND status = 'processing' AND cancel_requested_at IS NOT NULL
"""


@cache
def promote(postgres: bool) -> str:
    return f"""
WITH due AS (
  SELECT id FROM tasks WHERE waiting_for = 'time' AND run_at <= %s
  ORDER BY run_at LIMIT %s {_locking(postgres)}
)
UPDATE tasks SET ready_at = run_at, waiting_for = NULL WHERE {_among(postgres, "due")} RETURNING id
"""  # noqa: S608 - constants


@cache
def claim(postgres: bool, handlers: int) -> str:
    return f"WITH picked AS ({_first_ready(postgres, handlers)}) {_take(postgres)}"


@cache
def claim_ahead(postgres: bool, handlers: int) -> str:
    return f"""
WITH head AS ({_first_ready(postgres, handlers)}),
picked AS (SELECT id FROM head WHERE attempt - attempts_before + 1 < max_attempts LIMIT %s)
{_take(postgres)}"""  # noqa: S608 - constants


def _first_ready(postgres: bool, handlers: int) -> str:
    return f"""
SELECT id, attempt, attempts_before, max_attempts FROM tasks
WHERE {_READY} AND queue = %s AND (expires_at IS NULL OR expires_at > %s)
  AND handler IN ({", ".join(["%s"] * handlers)})
ORDER BY priority DESC, ready_at, id LIMIT %s {_locking(postgres)}
"""  # noqa: S608 - constants


def _take(postgres: bool) -> str:
    return f"""
UPDATE tasks SET status = 'processing', attempt = attempt + 1, fence = fence + 1, lease_expires_at = %s,
  worker_id = %s, attempted_at = %s, started_at = COALESCE(started_at, %s)
WHERE {_among(postgres, "picked")}
RETURNING {", ".join(CLAIMED)}, CAST(ready_at AS text), traceparent
"""  # noqa: S608 - constants


_HELD = "tasks.id = v.k AND tasks.fence = v.f AND tasks.status = 'processing'"

COMPLETE = f"""
WITH v(k, f, r) AS ({{rows}})
UPDATE tasks SET status = 'completed', result = v.r, error = NULL, lease_expires_at = NULL, finished_at = %s
FROM v WHERE {_HELD} RETURNING id, fence
"""  # noqa: S608 - constants

SETTLE = f"""
WITH v(k, f, new_status, new_attempt, new_crashes, new_releases, new_ready_at, new_run_at, new_waiting_for,
  new_finished_at, new_error, new_fingerprint) AS ({{rows}})
UPDATE tasks SET status = new_status, attempt = new_attempt, crashes = new_crashes, releases = new_releases,
  ready_at = CASE WHEN new_waiting_for IS NULL THEN COALESCE(new_ready_at, ready_at) END,
  run_at = COALESCE(new_run_at, run_at),
  waiting_for = new_waiting_for, finished_at = new_finished_at, error = COALESCE(new_error, error),
  fingerprint = COALESCE(new_fingerprint, fingerprint),
  started_at = CASE WHEN new_attempt > 0 THEN started_at END, lease_expires_at = NULL
FROM v WHERE {_HELD} RETURNING id, fence
"""  # noqa: S608 - constants

# The column itself, not "IS NOT NULL" of it: SQLite 3.40 answers 1 to that in RETURNING, taking it from the
# partial index on cancel_requested_at.
EXTEND = f"""
WITH v(k, f) AS ({{rows}})
UPDATE tasks SET lease_expires_at = %s FROM v WHERE {_HELD} RETURNING id, fence, cancel_requested_at
"""  # noqa: S608 - constants


LOCK = f"""
WITH v(k, f) AS ({{rows}}) SELECT id, fence, cancel_requested_at, cancel_reason FROM tasks JOIN v ON {_HELD}
"""  # noqa: S608 - constants
# Looked up one after the other, so that they are locked in the order that is given. By their ids: the status
# is hidden from the planner, which may think that nothing is processing, and read all that is for each.
LOCK_IN_ORDER = """
WITH v(k, f) AS ({rows}) SELECT held.* FROM v CROSS JOIN LATERAL (
  SELECT id, fence, cancel_requested_at, cancel_reason FROM tasks
  WHERE id = v.k AND fence = v.f AND COALESCE(status, '') = 'processing' FOR UPDATE
) AS held
"""


# -- unique keys

# The condition of the index task_unique_idx, so that it serves: this is when a key counts.
HOLDS = (
    "(unique_while = 'ttl' OR (status IN ('pending', 'processing') AND unique_while = 'live')"
    " OR (fence = unique_fence AND status = 'pending' AND unique_while = 'pending'))"
)
HOLDERS = f"""
WITH v(o, k) AS ({{rows}})
SELECT tasks.owner, unique_key, id, fence, status, queue, unique_until IS NOT NULL AND unique_until <= %s
FROM v CROSS JOIN tasks WHERE tasks.owner = v.o AND unique_key = v.k AND {HOLDS}
"""  # noqa: S608 - constants
# The same task, all else as asked for now, with a new budget. It keeps its place if it was ready.
REPLACE = f"""
WITH v(k, f, {", ".join(f"new_{name}" for name in REPLACED)}) AS ({{rows}})
UPDATE tasks SET {", ".join(f"{name} = new_{name}" for name in REPLACED if name != "ready_at")},
  ready_at = CASE WHEN new_waiting_for IS NULL THEN COALESCE(ready_at, new_ready_at) END,
  attempts_before = attempt, crashes = 0, releases = 0, unique_fence = fence
FROM v WHERE tasks.id = v.k AND tasks.fence = v.f AND tasks.status = 'pending' AND unique_while IS NOT NULL
RETURNING id, fence
"""  # noqa: S608 - constants
GIVE_UP = "UPDATE tasks SET unique_while = NULL WHERE id = %s AND unique_until <= %s"


# -- requests that are sent again


@cache
def reserve(size: int) -> str:
    """Takes over what has grown too old. On PostgreSQL it waits for one who has just taken the same key."""
    values = ", ".join(["(%s, %s, %s, %s, %s, '')"] * size)
    return f"""
INSERT INTO idempotency (owner, path, key, fingerprint, created_at, location) VALUES {values}
ON CONFLICT (owner, path, key) DO UPDATE SET fingerprint = excluded.fingerprint,
  created_at = excluded.created_at, status = NULL, body = NULL, location = ''
WHERE idempotency.created_at <= %s
RETURNING owner, path, key
"""  # noqa: S608 - constants


KEPT = """
SELECT fingerprint, COALESCE(status, 0), COALESCE(body, ''), location FROM idempotency
WHERE owner = %s AND path = %s AND key = %s AND created_at > %s
"""
KEEP = (
    "UPDATE idempotency SET status = %s, body = %s, location = %s WHERE owner = %s AND path = %s AND key = %s"
)
FORGET = """
DELETE FROM idempotency WHERE (owner, path, key) IN (
  SELECT owner, path, key FROM idempotency WHERE created_at <= %s ORDER BY created_at LIMIT %s
)
"""


# -- what is not kept for ever


@cache
def outlived(postgres: bool, status: str) -> str:
    """Those that finished in a status before a time, oldest first; the second condition is for the index.

    Who has a unique key for a while after its end stays until then.
    """
    return f"""
SELECT id FROM tasks WHERE status = '{status}' AND status IN ('cancelled', 'completed', 'failed')
  AND finished_at <= %s AND (unique_while IS NULL OR unique_while <> 'ttl' OR unique_until <= %s)
ORDER BY finished_at LIMIT %s {_locking(postgres)}
"""  # noqa: S608 - constants


@cache
def remove(size: int) -> tuple[str, str]:
    marks = ", ".join(["%s"] * size)
    return (
        f"DELETE FROM attempts WHERE task_id IN ({marks})",  # noqa: S608 - constants
        f"DELETE FROM tasks WHERE id IN ({marks})",  # noqa: S608 - constants
    )
