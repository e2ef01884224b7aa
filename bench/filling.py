"""Tables of a size that ``enqueue`` would take an hour to make: rows made by the database itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connections, transaction

from tasks.api.pagination import OLDER, Listing, Place
from tasks.models.task import database
from tasks.states import Status

AT_ONCE = 100_000
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)  # of the oldest row; one is made each millisecond
FAR = timedelta(days=365)  # in the future, from when it is filled
RARE = 10_000  # each so many rows have a handler of their own
RICH = 60_000  # of the newest rows have a payload as people send them
FAILED = 50  # each so many of the finished rows; and as many were cancelled


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the two databases differ in making rows."""

    numbers: str  # a table ``numbers`` with the column n, between two parameters
    id: str  # a UUID version 7: when, then which
    time: str  # n steps after BEGAN
    json: str
    json_list: str


SQLITE = Dialect(
    numbers="""WITH RECURSIVE numbers(n) AS (
  SELECT %s UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < %s
)""",
    id="printf('%%012x70008%%015x', {milliseconds} + n, n)",
    time="strftime('%%Y-%%m-%%d %%H:%%M:%%f000', ({milliseconds} + n) / 1000.0, 'unixepoch')",
    json="CASE WHEN {rich} THEN printf('{payload}', n) ELSE '{{}}' END",
    json_list="'[]'",
)
POSTGRES = Dialect(
    numbers="WITH numbers(n) AS (SELECT generate_series(%s::bigint, %s::bigint - 1))",
    id="(lpad(to_hex({milliseconds} + n), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid",
    time="to_timestamp(({milliseconds} + n) / 1000.0)",
    json="(CASE WHEN {rich} THEN format('{payload}', n) ELSE '{{}}' END)::json",
    json_list="'[]'",
)

_PAYLOAD = (
    '{"user": %%s, "mail": "somebody.of.many@example.com", "order": {"items": [1, 2], "note": "as usual"}, '
    '"lines": ["what people send along with their tasks is a line or two of such a length"]}'
)
_COLUMNS = """
id, title, handler, args, payload, owner, queue, priority, tags, run_at, max_attempts, timeout_seconds,
created_at, status, ready_at, waiting_for, attempt, attempts_before, crashes, releases, fence, worker_id,
attempted_at, started_at, finished_at, result"""


def fill_table(rows: int, queues: int) -> int:
    """A third each: finished long ago, waiting for a time far ahead, and the backlog, which came last."""
    third = rows // 3
    over, ready = f"n < {third}", f"n >= {2 * third}"
    finished = f"""
CASE WHEN {over} THEN
  CASE n %% {FAILED} WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'completed' END
ELSE 'pending' END"""
    waits, rich = f"NOT ({over} OR {ready})", f"n >= {rows - RICH}"
    return _fill(rows, queues, status=finished, over=over, waits=waits, rich=rich)


def fill_ready(rows: int, queues: int) -> int:
    return _fill(rows, queues, status="'pending'", over="false", waits="false", rich="false")


def _fill(rows: int, queues: int, *, status: str, over: str, waits: str, rich: str) -> int:
    """In several transactions, each short enough for the service's limits."""
    connection = connections[database()]
    dialect = POSTGRES if connection.vendor == "postgresql" else SQLITE
    milliseconds = int(BEGAN.timestamp() * 1000)
    time = dialect.time.format(milliseconds=milliseconds)
    far = connection.ops.adapt_datetimefield_value(datetime.now(UTC) + FAR)
    sql = f"""
{dialect.numbers}
INSERT INTO tasks ({_COLUMNS})
SELECT {dialect.id.format(milliseconds=milliseconds)}, 'filled',
  CASE WHEN n %% {RARE} = 0 THEN 'bench.rare' ELSE 'bench.noop' END, {dialect.json_list},
  {dialect.json.format(rich=rich, payload=_PAYLOAD)}, '',
  CASE WHEN {queues} = 1 THEN 'default' ELSE 'q' || (n %% {queues}) END, 0, {dialect.json_list},
  CASE WHEN {waits} THEN {"%s::timestamptz" if dialect is POSTGRES else "%s"} END, 5, 300,
  {time}, {status},
  CASE WHEN {waits} THEN NULL ELSE {time} END, CASE WHEN {waits} THEN 'time' END,
  CASE WHEN {over} THEN 1 ELSE 0 END, 0, 0, 0, CASE WHEN {over} THEN 1 ELSE 0 END,
  CASE WHEN {over} THEN 'filled' ELSE '' END,
  CASE WHEN {over} THEN {time} END, CASE WHEN {over} THEN {time} END, CASE WHEN {over} THEN {time} END,
  CASE WHEN {over} THEN '1' END{"::json" if dialect is POSTGRES else ""}
FROM numbers"""
    for first in range(0, rows, AT_ONCE):
        with transaction.atomic(using=database()), connection.cursor() as cursor:
            cursor.execute(sql, (first, min(first + AT_ONCE, rows), far))
    return rows


def pages() -> dict[str, str]:
    """The pages of a list that are asked for; what is common, what is rare, and what is nowhere."""
    with connections[database()].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tasks")
        [rows] = cursor.fetchone()
    milliseconds = int(BEGAN.timestamp() * 1000) + rows // 2
    middle = UUID(f"{milliseconds:012x}70008{rows // 2:015x}")
    half_way = Listing(path="/tasks", filters={}).url(Place(OLDER, str(middle)))
    by_status = {f"status={name.value}": f"/tasks?status={name.value}" for name in Status}
    return {
        "newest": "/tasks",
        "half way down, by cursor": str(half_way),
        **by_status,
        "queue=q3": "/tasks?queue=q3",
        "handler=bench.noop": "/tasks?handler=bench.noop",
        f"handler=bench.rare (1 in {RARE:,})": "/tasks?handler=bench.rare",
        "handler=nobody (none)": "/tasks?handler=nobody",
        "status=failed&queue=q3": "/tasks?status=failed&queue=q3",
    }
