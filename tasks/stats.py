"""Read-only counts and names for those who watch, each answered by an index however large the table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import QuerySet

from tasks import registry
from tasks.book import Book
from tasks.models import Queue, Task, TaskQuerySet
from tasks.models.task import database
from tasks.states import Status, WaitingFor

PARKED_SHOWN = 20
COUNTED = 1_000  # counting ends here; one more stands for "or more"
HELD_LOOKED_AT = 1_000  # tasks in the hands of workers


def count(status: Status, *, most: int | None = None) -> int | None:
    """How many tasks are in this status, ``most + 1`` at most; None where no index could tell."""
    parts, most = _indexed(status), COUNTED if most is None else most
    if not parts:
        return None
    return min(most + 1, sum(_key(part)[: most + 1].count() for part in parts))


def _key(part: TaskQuerySet) -> QuerySet[Task, dict[str, Any]]:
    """What its index begins with: no row is looked up for it."""
    keys: QuerySet[Task, dict[str, Any]] = part.values(str(part.query.order_by[0]).lstrip("-"))
    return keys


def live_ids(*statuses: Status, limit: int) -> list[UUID] | None:
    """The ids of all tasks that are pending or processing, unordered; None: more than ``limit``."""
    if any((count(status, most=limit) or 0) > limit for status in statuses):
        return None  # to read them costs ten times as much
    parts = [part for status in sorted(statuses) for part in _indexed(status)]
    ids = set(_ids_of(parts, limit + 1))
    return list(ids) if len(ids) <= limit else None


def _ids_of(parts: Sequence[TaskQuerySet], limit: int) -> Iterator[UUID]:
    """Of one moment, so that a task which moves from part to part is in one of them.

    Where that cannot be had in one statement, the parts are asked again in the end.
    """
    asked = [part.values_list("pk", flat=True)[:limit] for part in parts]
    if connections[database()].features.supports_slicing_ordering_in_compound:
        yield from asked[0].union(*asked[1:], all=True)
        return
    for part in (*asked, *[part.all() for part in asked[:-1]]):
        yield from part


def ready_in(queue: str, *, most: int = COUNTED) -> int:
    """How many tasks of this queue are ready, ``most + 1`` at most."""
    return _ready().filter(queue=queue).values("pk")[: most + 1].count()


def pending_in(queue: str, *, most: int = COUNTED) -> int:
    """How many tasks of this queue are pending, ready or not yet, ``most + 1`` at most: by two indexes."""
    waiting = Task.objects.using(database()).filter(status=Status.PENDING, ready_at__isnull=True, queue=queue)
    left = most + 1 - ready_in(queue, most=most)
    return most + 1 - left + (waiting.values("queue")[:left].count() if left else 0)


def any_pending(queue: str, *, before: datetime) -> bool:
    """Whether a task of this queue is pending that was made by then: by two indexes."""
    tasks = Task.objects.using(database())
    pending = tasks.filter(queue=queue, status=Status.PENDING, created_at__lte=before)
    return any(pending.filter(ready_at__isnull=not ready).exists() for ready in (False, True))


def oldest_ready_in(queue: str) -> datetime | None:
    """Since when the one that has waited longest is ready: an index step for each priority in use."""
    found: list[datetime] = []
    rest = _ready().filter(queue=queue)
    while first := rest.values_list("priority", "ready_at").first():
        priority, ready_at = first
        found += [ready_at] if ready_at else []
        rest = rest.filter(priority__lt=priority)
    return min(found, default=None)


def parked() -> dict[str, int]:
    """Handlers that no live worker knows, each with how many tasks wait for it, ``COUNTED + 1`` at most."""
    waiting = Task.objects.using(database()).filter(waiting_for=WaitingFor.HANDLER).order_by("handler")
    found: dict[str, int] = {}
    rest = waiting
    while len(found) < PARKED_SHOWN and (handler := rest.values_list("handler", flat=True).first()):
        found[handler] = waiting.filter(handler=handler).values("pk")[: COUNTED + 1].count()
        rest = waiting.filter(handler__gt=handler)
    return found


def lapsed(before: datetime) -> int:
    """Leases that ended before that and that nobody has taken back, ``COUNTED + 1`` at most."""
    held = Task.objects.using(database()).filter(status=Status.PROCESSING, lease_expires_at__lt=before)
    return held.order_by("lease_expires_at").values("pk")[: COUNTED + 1].count()


def in_hands(of: TaskQuerySet) -> Mapping[str, Sequence[Task]]:
    """Of these tasks those that workers have, by worker; found by the index of leases.

    Those that began first come first; what waits behind others began with them.
    """
    held = of.filter(status=Status.PROCESSING, lease_expires_at__isnull=False).order_by("lease_expires_at")
    columns = ("title", "handler", "queue", "attempted_at", "timeout_seconds", "worker_id")
    found: defaultdict[str, list[Task]] = defaultdict(list)
    for task in sorted(held.only(*columns, "cancel_requested_at")[:HELD_LOOKED_AT], key=_since):
        found[task.worker_id].append(task)
    return found


def _since(task: Task) -> float:
    return task.attempted_at.timestamp() if task.attempted_at else 0.0


def first_ready_handlers(queue: str) -> set[str]:
    """Those of the tasks that would be claimed next from a queue."""
    return set(_ready().filter(queue=queue).values_list("handler", flat=True)[:COUNTED])


def queues_in_use() -> list[str]:
    """The queues that have a row, that have ready tasks, or that a handler known here asks for."""
    configured = Queue.objects.using(database()).values_list("name", flat=True)
    asked_for = {registry.find(name).queue_name for name in registry.known()}
    return sorted({*configured, *Book(database()).ready_queues(), *asked_for})


def _ready() -> TaskQuerySet:
    tasks = Task.objects.using(database()).filter(status=Status.PENDING, ready_at__isnull=False)
    return tasks.order_by("queue", "-priority", "ready_at", "pk")


def _indexed(status: Status) -> Sequence[TaskQuerySet]:
    """The tasks of a status in parts, each in the order of the index that holds them and nothing else."""
    tasks = Task.objects.using(database())
    match status:
        case Status.PENDING:
            timed = tasks.filter(waiting_for=WaitingFor.TIME).order_by("run_at")
            parked = tasks.filter(waiting_for=WaitingFor.HANDLER).order_by("handler")
            return [_ready(), timed, parked]
        case Status.PROCESSING:
            held = tasks.filter(status=status, lease_expires_at__isnull=False)
            return [held.order_by("lease_expires_at")]
        case Status.FAILED | Status.CANCELLED:
            return [tasks.filter(status=status).order_by("-pk")]
        case _:
            return []
