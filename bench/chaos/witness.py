"""A trigger in the database that writes down each change of a task, and the reading of all that was seen."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from bench.chaos import ASKS, NOTES, lines
from bench.chaos.facts import NEVER, Ask, Change, EndedAttempt, Note, Row

COLUMNS = (
    "task_id", "at", "old_status", "status", "old_fence", "fence", "old_attempt", "attempt", "old_crashes",
    "crashes", "worker_id", "claimed_at", "result", "cancel_requested",
)  # fmt: skip
NAMES = ", ".join(COLUMNS)
WORTH = " OR ".join(f"OLD.{name} <> NEW.{name}" for name in ("status", "fence", "attempt", "crashes"))


def _values(old: str, new: str, clock: str, seconds: str) -> str:
    """``old``: "OLD" or nothing, ``new``: whose status counts; ``seconds``: of a column, since 1970."""

    def was(column: str, otherwise: str) -> str:
        return f"{old}.{column}" if old else otherwise

    status = f"{new}.status" if new != "OLD" else "'deleted'"
    claimed = seconds.format(f"{new}.attempted_at")
    return f"""
      {new}.id, {clock}, {was("status", "''")}, {status}, {was("fence", "0")}, {new}.fence,
      {was("attempt", "0")}, {new}.attempt, {was("crashes", "0")}, {new}.crashes, {new}.worker_id,
      COALESCE({claimed}, 0), COALESCE(CAST({new}.result AS text), ''),
      CASE WHEN {new}.cancel_requested_at IS NULL THEN 0 ELSE 1 END"""


_DAYS = "(julianday({}) - 2440587.5) * 86400"
_EPOCH = "EXTRACT(EPOCH FROM {})::float8"
EVENTS = {"INSERT": ("", "NEW"), "UPDATE": ("OLD", "NEW"), "DELETE": ("OLD", "OLD")}


def sqlite_statements() -> str:
    made = f"CREATE TABLE chaos_changes (number INTEGER PRIMARY KEY, {NAMES});"
    for event, (old, new) in EVENTS.items():
        when = f"WHEN {WORTH}" if event == "UPDATE" else ""
        values = _values(old, new, _DAYS.format("'now'"), _DAYS)
        made += f"""
CREATE TRIGGER chaos_{event.lower()} AFTER {event} ON tasks {when}
BEGIN INSERT INTO chaos_changes ({NAMES}) VALUES ({values}); END;"""
    return made


def postgres_statements() -> str:
    types = ("uuid", "float8", "text", "text", *("bigint",) * 6, "text", "float8", "text", "int")
    columns = ", ".join(f"{name} {type_}" for name, type_ in zip(COLUMNS, types, strict=True))
    made = f"CREATE TABLE chaos_changes (number bigserial PRIMARY KEY, {columns});"
    for event, (old, new) in EVENTS.items():
        when = f"WHEN ({WORTH})" if event == "UPDATE" else ""
        values = _values(old, new, _EPOCH.format("clock_timestamp()"), _EPOCH)
        name = f"chaos_{event.lower()}"
        made += f"""
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO chaos_changes ({NAMES}) VALUES ({values}); RETURN NULL; END $$;
CREATE TRIGGER {name} AFTER {event} ON tasks FOR EACH ROW {when} EXECUTE FUNCTION {name}();"""
    return made


def watch_sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(sqlite_statements())


def watch_postgres(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(postgres_statements().encode())


# -- what was seen

Rows = Iterable[tuple[Any, ...]]
CHANGES = f"SELECT {NAMES} FROM chaos_changes ORDER BY number"
TASKS = (
    "SELECT id, title, status, attempt, attempts_before, max_attempts, fence, crashes, releases,"
    " CAST(error AS text) FROM tasks"
)
ATTEMPTS = "SELECT task_id, number, fence, outcome, {seconds}, worker_id FROM attempts ORDER BY id"
ATTEMPTS_OF = {
    "sqlite": ATTEMPTS.format(seconds=_DAYS.format("ended_at")),
    "postgres": ATTEMPTS.format(seconds=_EPOCH.format("ended_at")),
}


def rows_from(found: Rows) -> dict[str, Row]:
    rows = (Row(**_named(Row.__slots__, (_id(row[0]), *row[1:]))) for row in found)
    return {row.id: row for row in rows}


def changes_from(found: Rows) -> list[Change]:
    shift = time.time() - time.monotonic()
    return [_change(row, shift) for row in found]


def _change(row: Sequence[Any], shift: float) -> Change:
    id_, at, *between, claimed_at, result, cancel_requested = row
    known = (_id(id_), at - shift, *between, claimed_at - shift, result, bool(cancel_requested))
    return Change(**_named(COLUMNS, known))


def attempts_from(found: Rows) -> list[EndedAttempt]:
    shift = time.time() - time.monotonic()
    return [
        EndedAttempt(
            task_id=_id(id_), number=number, fence=fence, outcome=outcome, at=at - shift, worker_id=worker_id
        )
        for id_, number, fence, outcome, at, worker_id in found
    ]


def notes_in(folder: Path) -> list[Note]:
    return [_note(*line.split()) for line in lines(folder / NOTES)]


def _note(kind: str, at: str, task_id: str, fence: str, attempt: str, pid: str, other: str = "0") -> Note:
    return Note(
        kind=kind,
        at=float(at),
        task_id=_id(task_id),
        fence=int(fence),
        attempt=int(attempt),
        pid=int(pid),
        other=int(other),
    )


def asks_in(folder: Path) -> list[Ask]:
    """A line before each was sent, and another of the same number if it was answered."""
    told: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob(f"{ASKS}-*")):
        for line in lines(path):
            found = json.loads(line)
            told.setdefault(found.pop("number"), {}).update(found)
    return [_ask(ask) for ask in told.values()]


def _ask(found: dict[str, Any]) -> Ask:
    ids = tuple(_id(id_) for id_ in found.pop("ids", ()))
    titles, task_id = tuple(found.pop("titles", ())), _id(found.pop("task_id", ""))
    return Ask(**{"told_at": NEVER, **found}, ids=ids, titles=titles, task_id=task_id)


def _id(value: Any) -> str:
    """As SQLite keeps it."""
    return str(value).replace("-", "")


def _named(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(names, values, strict=True))
