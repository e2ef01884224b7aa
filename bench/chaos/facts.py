"""What was seen during a run: by clients, by handlers, and by a trigger in the database itself."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from bench.chaos import ACKNOWLEDGED, ANSWERS, NOTES, SENT, lines
from bench.service import Service

WITNESS = """
CREATE TABLE chaos_changes (
  number INTEGER PRIMARY KEY, task_id TEXT, at REAL, old_status TEXT, status TEXT, old_fence INTEGER,
  fence INTEGER, old_attempt INTEGER, attempt INTEGER
);
CREATE TRIGGER chaos_witness AFTER UPDATE ON tasks
WHEN OLD.status <> NEW.status OR OLD.fence <> NEW.fence OR OLD.attempt <> NEW.attempt
BEGIN
  INSERT INTO chaos_changes (task_id, at, old_status, status, old_fence, fence, old_attempt, attempt)
  VALUES (NEW.id, (julianday('now') - 2440587.5) * 86400, OLD.status, NEW.status, OLD.fence, NEW.fence,
    OLD.attempt, NEW.attempt);
END;
CREATE TRIGGER chaos_loss AFTER DELETE ON tasks
BEGIN
  INSERT INTO chaos_changes (task_id, at, old_status, status, old_fence, fence, old_attempt, attempt)
  VALUES (OLD.id, (julianday('now') - 2440587.5) * 86400, OLD.status, 'deleted', OLD.fence, OLD.fence,
    OLD.attempt, OLD.attempt);
END;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A task as it stands at the end."""

    id: str
    title: str
    status: str
    attempt: int
    max_attempts: int
    fence: int
    crashes: int
    releases: int
    result: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a row, written down in the very transaction that made it."""

    task_id: str
    at: float
    old_status: str
    status: str
    old_fence: int
    fence: int
    old_attempt: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a handler wrote down: ``start``, ``end``, or ``overlap`` with the run of another fence."""

    kind: str
    at: float
    task_id: str
    fence: int
    pid: int
    other: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedAttempt:
    task_id: str
    fence: int
    outcome: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Times are monotonic seconds."""

    lease_seconds: float
    sent: frozenset[str]  # titles
    acknowledged: Mapping[str, str]  # id -> title
    answers: Mapping[tuple[str, str], int]  # (method, status) -> how often
    rows: Mapping[str, Row]
    changes: Sequence[Change]
    notes: Sequence[Note]
    attempts: Sequence[EndedAttempt]
    pauses: Sequence[tuple[float, float]]  # from, to
    trouble: Sequence[str]  # what the processes did that they must not
    integrity: str = "ok"


def install_witness(service: Service) -> None:
    with closing(sqlite3.connect(service.path)) as connection:
        connection.executescript(WITNESS)


def gather(
    service: Service, *, lease_seconds: float, pauses: Sequence[tuple[float, float]], trouble: Sequence[str]
) -> Facts:
    folder = service.folder
    wall = time.time() - time.monotonic()
    rows = service.rows(
        "SELECT id, title, status, attempt, max_attempts, fence, crashes, releases, result, error FROM tasks"
    )
    changes = service.rows(
        "SELECT task_id, at, old_status, status, old_fence, fence, old_attempt, attempt FROM chaos_changes"
        " ORDER BY number"
    )
    return Facts(
        lease_seconds=lease_seconds,
        sent=frozenset(title for [title] in lines(folder / SENT)),
        acknowledged={id_.replace("-", ""): title for id_, title in lines(folder / ACKNOWLEDGED)},
        answers=Counter((method, status) for method, status, *_ in lines(folder / ANSWERS)),
        rows={row[0]: _row(row) for row in rows},
        changes=[_change(row, wall) for row in changes],
        notes=[_note(words) for words in lines(folder / NOTES)],
        attempts=_attempts(service, wall),
        pauses=pauses,
        trouble=trouble,
        integrity=service.value("PRAGMA integrity_check"),
    )


def _row(row: tuple[object, ...]) -> Row:
    return Row(**dict(zip(Row.__slots__, row, strict=True)))  # type: ignore[arg-type]  # as selected


def _change(row: tuple[object, ...], wall: float) -> Change:
    found = dict(zip(Change.__slots__, row, strict=True))
    return Change(**{**found, "at": float(str(found["at"])) - wall})  # type: ignore[arg-type]  # as selected


def _note(words: list[str]) -> Note:
    kind, at, task_id, fence, pid, *other = words
    return Note(
        kind=kind,
        at=float(at),
        task_id=task_id.replace("-", ""),
        fence=int(fence),
        pid=int(pid),
        other="".join(other),
    )


def _attempts(service: Service, wall: float) -> list[EndedAttempt]:
    return [
        EndedAttempt(
            task_id=task_id,
            fence=fence,
            outcome=outcome,
            at=datetime.fromisoformat(f"{ended_at}+00:00").timestamp() - wall,
        )
        for task_id, fence, outcome, ended_at in service.rows(
            "SELECT task_id, fence, outcome, ended_at FROM attempts"
        )
    ]
