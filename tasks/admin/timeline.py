"""The life of one task in order: moments, attempts, and how long it was between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tasks.models import Attempt, Task
from tasks.spans import span
from tasks.states import FINISHED, Status, WaitingFor

STRIP_UNITS = 1_000  # width of the strip
LEAST_UNITS = 6  # so that what was short is still seen
NOTICED = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt, whether it has a row of its own or is told by the task's."""

    number: int
    outcome: str  # as a class of CSS
    label: str
    started: datetime | None
    ended: datetime | None  # None: it goes on
    worker: str
    error_type: str = ""
    message: str = ""
    traceback: str = ""
    fingerprint: str | None = None

    def lasted(self, now: datetime) -> timedelta:
        end = self.ended or now
        return max(timedelta(0), end - (self.started or end))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A moment, a wait, or an attempt."""

    kind: str  # moment, gap, run
    label: str = ""
    state: str = ""  # its colour
    at: datetime | None = None
    length: timedelta | None = None
    note: str = ""
    run: Run | None = None


def runs_of(task: Task, recorded: Sequence[Attempt]) -> list[Run]:
    """In order; the attempt that runs or succeeded has no row of its own."""
    runs = [_run(attempt) for attempt in recorded]
    if task.status in (Status.PROCESSING, Status.COMPLETED):
        status = Status(task.status)
        runs.append(
            Run(
                number=task.attempt,
                outcome=status.value,
                label="Running" if status == Status.PROCESSING else "Succeeded",
                started=task.attempted_at,
                ended=task.finished_at,
                worker=task.worker_id,
            )
        )
    return sorted(runs, key=lambda run: run.number)


def _run(attempt: Attempt) -> Run:
    outcome = Attempt.Outcome(attempt.outcome)
    return Run(
        number=attempt.number,
        outcome=outcome.value,
        label=outcome.label.capitalize(),
        started=attempt.started_at,
        ended=attempt.ended_at,
        worker=attempt.worker_id,
        error_type=attempt.error_type,
        message=attempt.message,
        traceback=attempt.traceback,
        fingerprint=attempt.fingerprint,
    )


def steps_of(task: Task, runs: Sequence[Run], *, unseen: int, waits: str) -> Iterator[Step]:
    """``unseen``: earlier attempts that are left out. ``waits``: why a pending one does not run."""
    yield Step(kind="moment", label="Created", state="created", at=task.created_at)
    since = task.created_at
    if unseen and runs:
        label = f"{unseen} earlier attempt{'' if unseen == 1 else 's'} not shown"
        yield Step(kind="gap", label=label)
        since = runs[0].started or since
    for run in runs:
        yield from _before(task, run, since)
        yield Step(kind="run", state=run.outcome, run=run, at=run.started)
        since = run.ended or since
    yield from _end(task, since, waits)


def _before(task: Task, run: Run, since: datetime) -> Iterator[Step]:
    """What lies between the last moment and an attempt; when it was ready is known of the last one alone."""
    if run.started is None:
        return
    why = _why_it_waited(task, run)
    if run.number == task.attempt and task.ready_at and since <= task.ready_at <= run.started:
        yield from _gap(why, task.ready_at - since)
        yield Step(kind="moment", label="Ready", state="ready", at=task.ready_at)
        yield from _gap("waited for a worker", run.started - task.ready_at)
    else:
        yield from _gap(
            "until its first attempt" if run.number == 1 else f"{why}, and for a worker", run.started - since
        )


def _why_it_waited(task: Task, run: Run) -> str:
    if task.attempts_before and run.number == task.attempts_before + 1:
        return "until it was run again by hand"
    return "waited for its time" if run.number == 1 else "backoff"


def _gap(label: str, length: timedelta) -> Iterator[Step]:
    if length >= NOTICED:
        yield Step(kind="gap", label=label, length=length)


def _end(task: Task, since: datetime, waits: str) -> Iterator[Step]:
    if task.status in FINISHED and task.finished_at:
        yield from _gap("waited", task.finished_at - since)
        yield Step(
            kind="moment",
            label=Status(task.status).label,
            state=task.status,
            at=task.finished_at,
            note=f"{span(task.finished_at - task.created_at)} after it was created",
        )
    elif task.status == Status.PENDING:
        if task.ready_at:
            yield from _gap("waited", task.ready_at - since)
            yield Step(kind="moment", label="Ready", state="ready", at=task.ready_at)
        later = task.run_at if task.waiting_for == WaitingFor.TIME else None
        label = "Waits until" if later else "Waits"
        yield Step(kind="moment", label=label, state="pending", at=later, note="" if later else waits)


# -- the same as a strip, in proportion


def strip_of(task: Task, runs: Sequence[Run], now: datetime) -> list[dict[str, Any]]:
    """Rectangles from left to right: ``x`` and ``width`` of ``STRIP_UNITS``, a class, and what it is."""
    parts = list(_parts(task, runs, now))
    total = sum((length for _, length, _ in parts), timedelta(0)) or timedelta(microseconds=1)
    wide = [
        (state, max(LEAST_UNITS, STRIP_UNITS * (length / total)), title) for state, length, title in parts
    ]
    scale = STRIP_UNITS / (sum(width for _, width, _ in wide) or 1)
    strip, x = [], 0.0
    for state, width, title in wide:
        strip.append({"state": state, "x": f"{x:.2f}", "width": f"{width * scale:.2f}", "title": title})
        x += width * scale
    return strip


def _parts(task: Task, runs: Sequence[Run], now: datetime) -> Iterator[tuple[str, timedelta, str]]:
    since = task.created_at
    for run in runs:
        if run.started is None:
            continue
        if run.started - since >= NOTICED:
            yield "wait", run.started - since, f"waited {span(run.started - since)}"
        lasted = run.lasted(now)
        yield run.outcome, lasted, f"attempt {run.number}: {run.label.lower()}, {span(lasted)}"
        since = run.ended or now
    end = task.finished_at or now
    if end - since >= NOTICED:
        yield "wait", end - since, f"waited {span(end - since)}"
