"""What the page of one task shows: facts, values and attempts, ready for the template."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Model
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from tasks import states
from tasks.admin import words
from tasks.models import Attempt, Task, Worker
from tasks.models.task import database
from tasks.pending import Situation
from tasks.states import Status

RUNS_SHOWN = 20  # tracebacks are long

Fact = tuple[str, Any]  # a label, and a value that is text or safe


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt, whether it has a row of its own or is told by the task's."""

    number: int
    badge: SafeString
    started: SafeString | str
    took: str
    worker: SafeString | str
    error_type: str = ""
    message: str = ""
    traceback: str = ""


def of(task: Task, situation: Situation) -> dict[str, Any]:
    now, why = timezone.now(), situation.why(task)
    recorded = Attempt.objects.using(database()).filter(task=task).order_by("-number", "-pk")
    shown = list(recorded[: RUNS_SHOWN + 1])
    workers = _known_workers({task.worker_id, *(attempt.worker_id for attempt in shown)})
    runs = [*_run_of_the_row(task, workers, now), *(_run(row, workers, now) for row in shown[:RUNS_SHOWN])]
    facts = [("Why it waits", why.detail if why else ""), *_facts(task, workers, now)]
    return {
        "badge": words.status_badge(task.status),
        "standing": words.standing(task, now, why),
        "facts": [(label, value) for label, value in facts if value not in (None, "")],
        "values": list(_values(task)),
        "runs": runs,
        "more_runs": recorded.count() - RUNS_SHOWN if len(shown) > RUNS_SHOWN else 0,
    }


def may_retry(task: Task) -> bool:
    return task.status in states.RETRY.sources


def may_cancel(task: Task) -> bool:
    running = task.status == Status.PROCESSING and task.cancel_requested_at is None
    return running or task.status in states.CANCEL.sources


def link(model: type[Model], key: str, text: str) -> SafeString:
    url = reverse(f"admin:tasks_{model._meta.model_name}_change", args=(key,))
    return format_html('<a href="{}">{}</a>', url, text)


def tasks_link(text: str, **filters: str) -> SafeString:
    """To the list of tasks, filtered."""
    return format_html(
        '<a href="{}?{}">{}</a>', reverse("admin:tasks_task_changelist"), urlencode(filters), text
    )


def _known_workers(ids: Collection[str]) -> frozenset[str]:
    """Those that still have a row: it goes when a worker stops."""
    return frozenset(Worker.objects.using(database()).filter(pk__in=ids).values_list("pk", flat=True))


def _worker(worker_id: str, known: Collection[str]) -> SafeString | str:
    return link(Worker, worker_id, worker_id) if worker_id in known else worker_id


def _facts(task: Task, workers: Collection[str], now: datetime) -> Iterator[Fact]:
    yield "Id", format_html("<code>{}</code>", task.pk)
    yield "Handler", tasks_link(task.handler, handler=task.handler)
    yield "Queue", tasks_link(task.queue, queue=task.queue)
    yield "Priority", str(task.priority)
    yield "Attempts", _attempts(task)
    yield "Timeout", _timeout(task.timeout_seconds)
    yield "Created", words.moment(task.created_at, now)
    for label, moment in _moments(task):
        if moment:
            yield label, words.moment(moment, now)
    took = words.took(task)
    yield "Took", took and words.span(took)
    yield "Why cancelled", task.cancel_reason
    yield "Worker", _worker(task.worker_id, workers)
    yield "Crashes", task.crashes or None
    yield "Handed back", task.releases or None
    yield "Unique key", task.unique_key
    yield "Tags", ", ".join(map(str, task.tags))
    yield "Owner", task.owner


def _moments(task: Task) -> Iterator[tuple[str, datetime | None]]:
    pending = task.status == Status.PENDING
    yield "Not before", task.run_at
    yield "Expires", task.expires_at
    yield "Ready since", task.ready_at if pending else None
    yield "First started", task.started_at if task.started_at != task.attempted_at else None
    yield "Started", task.attempted_at
    yield "Lease until", task.lease_expires_at
    yield "Asked to stop", task.cancel_requested_at
    yield "Finished", task.finished_at


def _attempts(task: Task) -> str:
    earlier = f", {task.attempts_before} in earlier rounds" if task.attempts_before else ""
    return f"{words.attempts(task)}{earlier}"


def _timeout(seconds: float | None) -> str:
    return "none" if seconds is None else words.span(timedelta(seconds=seconds))


def _values(task: Task) -> Iterator[Fact]:
    if task.status == Status.COMPLETED:
        yield "Result", words.pretty(task.result)
    yield "Payload", words.pretty(task.payload)
    if task.args:
        yield "Arguments", words.pretty(task.args)
    if task.error:
        yield "Last error", words.pretty(task.error)


def _run_of_the_row(task: Task, workers: Collection[str], now: datetime) -> Iterator[Run]:
    """The attempt that runs or succeeded, which has no row of its own."""
    if task.status not in (Status.PROCESSING, Status.COMPLETED):
        return
    end = task.finished_at or now
    yield Run(
        number=task.attempt,
        badge=words.status_badge(task.status),
        started=words.moment(task.attempted_at, now),
        took=words.span(end - task.attempted_at) if task.attempted_at else "",
        worker=_worker(task.worker_id, workers),
    )


def _run(attempt: Attempt, workers: Collection[str], now: datetime) -> Run:
    outcome = Attempt.Outcome(attempt.outcome)
    return Run(
        number=attempt.number,
        badge=words.badge(outcome.value, outcome.label.capitalize()),
        started=words.moment(attempt.started_at, now),
        took=words.span(attempt.ended_at - attempt.started_at) if attempt.started_at else "",
        worker=_worker(attempt.worker_id, workers),
        error_type=attempt.error_type,
        message=attempt.message,
        traceback=attempt.traceback,
    )
