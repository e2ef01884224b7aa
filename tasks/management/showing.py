"""``tasks list``, ``show`` and ``stats``: what people read, and lines of JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

from tasks import lifecycle, stats
from tasks.management.choosing import all_tasks
from tasks.management.tables import plain, table, terminal_width
from tasks.models import Attempt, Task
from tasks.models.task import database
from tasks.pending import Situation, pause_in_words
from tasks.queues import AllQueues, Standing
from tasks.resource import attempt_resource, resource, seconds_since, time_text
from tasks.spans import span
from tasks.states import Status

HEAD = ("ID", "STATUS", "ATTEMPT", "AGE", "QUEUE", "HANDLER", "TITLE, AND WHAT IS THE MATTER")


# said in words, or in other lines
NOT_AS_THEY_ARE = {"id", "pending_reason", "attempt", "max_attempts", "error"}


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def task_table(tasks: Iterable[Task], situation: Situation) -> str:
    return table(HEAD, [_row(task, situation) for task in tasks], terminal_width())


def _row(task: Task, situation: Situation) -> tuple[str, ...]:
    attempt = f"{task.attempt - task.attempts_before}/{task.max_attempts}"
    said = ": ".join(filter(None, (task.title, _matter(task, situation))))
    age = span(situation.now - task.created_at)
    return str(task.pk), str(task.status), attempt, age, task.queue, task.handler, said


def _matter(task: Task, situation: Situation) -> str:
    if why := situation.why(task):
        until = f" in {span(why.until - situation.now)}" if why.until else ""
        return f"{why.code}{until}"
    if isinstance(task.error, dict) and task.status != Status.COMPLETED:
        return f"{task.error.get('type', '')}: {task.error.get('message', '')}"
    return ""


def found(ids: Sequence[UUID]) -> dict[UUID, Task]:
    return {task.pk: task for task in all_tasks().filter(pk__in=ids)}


def attempts_of(task: Task) -> list[Attempt]:
    return list(Attempt.objects.using(database()).filter(task=task).order_by("number", "pk"))


def whole(task: Task, situation: Situation) -> dict[str, Any]:
    """The resource of the API, with the attempts that did not succeed."""
    attempts = [attempt_resource(attempt) for attempt in attempts_of(task)]
    return {**resource(task, situation), "attempts": attempts}


def page(task: Task, situation: Situation) -> str:
    """All about one task, for people."""
    return "\n".join(_lines(task, situation))


def _lines(task: Task, situation: Situation) -> Iterator[str]:
    shown = resource(task, situation)
    yield f"{task.pk}  {plain(str(task))}"
    for name, value in shown.items():
        if name in NOT_AS_THEY_ARE or value in (None, "", [], {}):
            continue
        yield f"  {name:20}{plain(value if isinstance(value, str) else as_json(value))}"
    yield f"  {'attempts':20}{_attempts_in_words(task)}"
    if isinstance(task.error, dict):
        at = f" (attempt {number})" if (number := task.error.get("attempt")) else ""
        yield f"  {'error':20}{plain(f'{task.error.get("type")}: {task.error.get("message")}')}{at}"
    if why := situation.why(task):
        yield f"  {'why it waits':20}{plain(why.detail)}"
    for attempt in attempts_of(task):
        ended = f"{attempt.outcome} at {time_text(attempt.ended_at)} on {attempt.worker_id}"
        yield f"  attempt {attempt.number}, {ended}"
        if attempt.error_type:
            yield f"    {attempt.error_type}: {plain(attempt.message)}"
        yield from (f"    {plain(line)}" for line in attempt.traceback.splitlines())


def _attempts_in_words(task: Task) -> str:
    """Within the present budget, as a retry by hand gives a new one."""
    earlier = f", and {task.attempts_before} before the last retry by hand" if task.attempts_before else ""
    return f"{task.attempt - task.attempts_before} of {task.max_attempts}{earlier}"


def workforce(situation: Situation) -> dict[str, int]:
    """How many live workers there are, and how many executors they have together."""
    executors = lifecycle.living(now=situation.now).values_list("executors", flat=True)
    return {"workers": len(executors), "executors": sum(executors)}


def workforce_in_words(situation: Situation) -> str:
    (workers, executors) = workforce(situation).values()
    if not workers:
        return "no worker is live"
    are = "worker is" if workers == 1 else "workers are"
    return f"{workers} {are} live, with {executors} executor{'' if executors == 1 else 's'}"


QUEUE_HEAD = ("QUEUE", "READY", "WAITING", "FAILED", "OLDEST, S", "WORKERS", "")


def queue_standings(situation: Situation) -> list[Standing]:
    """Of each queue in use: what waits, since when, and who would take it."""
    queues = AllQueues(situation)
    return queues.standings(queues.names)


def queue_row(standing: Standing, situation: Situation) -> tuple[str, ...]:
    """A line of ``QUEUE_HEAD``."""
    depth, limit = standing.depth, standing.limit
    numbers = (capped(number, limit) for number in (depth.ready, depth.waiting, depth.failed))
    oldest = seconds_since(depth.oldest_ready_at, situation.now)
    said = pause_in_words(standing.paused) if standing.paused else ""
    return standing.name, *numbers, "" if oldest is None else f"{oldest:.0f}", str(standing.workers), said


def queue_json(standing: Standing, situation: Situation) -> dict[str, Any]:
    """Numbers above the limit of the standing stand for more."""
    depth, pause = standing.depth, standing.paused
    return {
        "queue": standing.name,
        "ready": depth.ready,
        "waiting": depth.waiting,
        "failed": depth.failed,
        "capped": standing.capped,
        "oldest_ready_seconds": seconds_since(depth.oldest_ready_at, situation.now),
        "paused": pause is not None,
        "paused_at": time_text(pause.paused_at) if pause else None,
        "paused_by": (pause.paused_by or None) if pause else None,
        "pause_reason": (pause.pause_reason or None) if pause else None,
        "workers": standing.workers,
    }


def capped(number: int, limit: int) -> str:
    return f"{limit:,}+" if number > limit else f"{number:,}"


def counts() -> dict[str, int | None]:
    """By status; ``stats.COUNTED + 1`` stands for more, None for what no index counts."""
    return {status.value: stats.count(status) for status in Status}
