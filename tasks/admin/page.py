"""What the page of one task shows: its life, values and facts, ready for the template."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from tasks import states
from tasks.admin import timeline, tracebacks, words
from tasks.admin.curl import curl
from tasks.admin.rights import Rights
from tasks.admin.timeline import Run, Step
from tasks.masking import masked_text
from tasks.models import Attempt, Failure, Task, Worker
from tasks.models.task import database
from tasks.pending import Situation
from tasks.states import Status

RUNS_SHOWN = 20  # tracebacks are long

Fact = tuple[str, Any]  # a label, and a value that is text or safe


def of(task: Task, request: HttpRequest, rights: Rights) -> dict[str, Any]:
    now, situation = timezone.now(), Situation()
    why = situation.why(task)
    recorded = Attempt.objects.using(database()).filter(task=task).order_by("-number", "-pk")
    shown = list(recorded[: RUNS_SHOWN + 1])
    unseen = recorded.count() - RUNS_SHOWN if len(shown) > RUNS_SHOWN else 0
    workers = _known_workers({task.worker_id, *(attempt.worker_id for attempt in shown)})
    runs = timeline.runs_of(task, shown[:RUNS_SHOWN])
    steps = timeline.steps_of(task, runs, unseen=unseen, waits=why.detail if why else "")
    told = Told(now, workers, _known_failures(runs), rights, task, last=runs[-1] if runs else None)
    return {
        "badge": words.status_badge(task.status),
        "standing": words.standing(task, now, why),
        "why": why,
        "strip": timeline.strip_of(task, runs, now) if runs and not unseen else [],
        "steps": [told.step(step) for step in steps],
        "facts": [
            (label, value) for label, value in _facts(task, workers, now) if value not in (None, "", False)
        ],
        "values": list(_values(task)) if rights.look_inside else [],
        "curl": curl(task, request) if rights.clone else "",
        "rights": rights,
        "levers": _levers(task, rights, now),
    }


def _levers(task: Task, rights: Rights, now: datetime) -> dict[str, bool]:
    return {
        "retry": rights.retry and may_retry(task),
        "cancel": rights.cancel and may_cancel(task),
        "run_now": rights.run_now and may_run_now(task, now),
        "clone": rights.clone,
    }


@dataclass(frozen=True, slots=True)
class Told:
    """How the steps of a task's life are written."""

    now: datetime
    workers: Collection[str]
    failures: Collection[str]
    rights: Rights
    task: Task
    last: Run | None

    def step(self, step: Step) -> dict[str, Any]:
        told: dict[str, Any] = {
            "kind": step.kind,
            "state": step.state,
            "label": step.label,
            "note": step.note,
        }
        if step.at:
            told["when"] = words.moment(step.at, self.now)
        if step.length is not None:
            told["length"] = words.span(step.length)
        if step.run:
            told["run"] = self._run(step.run)
        if step.state == Status.CANCELLED and self.task.cancel_reason:
            told["reason"] = self.task.cancel_reason
        if step.kind == "moment" and step.state == Status.FAILED and _failed_by_itself(self.task):
            told["error"] = self._error(self.task.error["type"], self.task.error.get("message", ""))
        return told

    def _run(self, run: Run) -> dict[str, Any]:
        is_last, inside = run is self.last, self.rights.look_inside
        told: dict[str, Any] = {
            "number": run.number,
            "badge": words.badge(run.outcome, run.label),
            "length": words.span(run.lasted(self.now)) if run.started else "",
            "goes_on": run.ended is None,
            "worker": _worker(run.worker, self.workers),
            "traceback": tracebacks.folded(run.traceback, self.task.handler)
            if run.traceback and inside
            else "",
            "open": is_last and self.task.status != Status.COMPLETED,
        }
        if run.error_type:
            told["error"] = self._error(run.error_type, run.message)
        if run.fingerprint in self.failures:
            told["failure"] = reverse("admin:tasks_failure_change", args=(run.fingerprint,))
        if is_last and self.task.cancel_requested_at:
            told["asked"] = words.moment(self.task.cancel_requested_at, self.now)
            told["reason"] = self.task.cancel_reason
        if run.ended is None:
            told["limit"] = _timeout(self.task.timeout_seconds)
            told["lease"] = words.moment(self.task.lease_expires_at, self.now)
        return told

    def _error(self, kind: str, message: str) -> dict[str, str]:
        """What it says may be as private as the payload; its type is not."""
        return {
            "type": words.error_type(kind),
            "message": masked_text(message) if self.rights.look_inside else "",
        }


def _failed_by_itself(task: Task) -> bool:
    """Without an attempt that has told of it: it expired, for example."""
    return isinstance(task.error, dict) and task.error.get("attempt") is None and "type" in task.error


def may_retry(task: Task) -> bool:
    return task.status in states.RETRY.sources


def may_run_now(task: Task, now: datetime) -> bool:
    return task.status == Status.PENDING and task.run_at is not None and task.run_at > now


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


def _known_failures(runs: Sequence[Run]) -> frozenset[str]:
    """The groups that are written down already, and not forgotten yet."""
    marks = {run.fingerprint for run in runs if run.fingerprint}
    known = Failure.objects.using(database()).filter(pk__in=marks) if marks else ()
    return frozenset(failure.pk for failure in known)


def _facts(task: Task, workers: Collection[str], now: datetime) -> Iterator[Fact]:
    """What the timeline leaves out."""
    pending = task.status == Status.PENDING
    yield "Id", format_html("<code>{}</code>", task.pk)
    yield "Handler", tasks_link(task.handler, handler=task.handler)
    yield "Queue", tasks_link(task.queue, queue=task.queue)
    yield "Priority", str(task.priority)
    yield "Attempts", _attempts(task)
    yield "Timeout", _timeout(task.timeout_seconds)
    yield "Not before", task.run_at and pending and task.run_at > now and words.moment(task.run_at, now)
    yield "Expires", task.expires_at and words.moment(task.expires_at, now)
    took = words.took(task)
    yield "Took", took and words.span(took)
    yield "Worker", _worker(task.worker_id, workers)
    yield "Crashes", task.crashes or None
    yield "Handed back", task.releases or None
    yield "Unique key", task.unique_key
    yield "Tags", ", ".join(map(str, task.tags))
    yield "Owner", task.owner


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
