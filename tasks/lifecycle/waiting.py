"""What happens to pending tasks by themselves: time passes, workers come and go."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from tasks import states, tally
from tasks.book import Book
from tasks.contract import ErrorReport
from tasks.errors import TaskExpired
from tasks.lifecycle.again import again
from tasks.lifecycle.settling import error_json
from tasks.limits import ROWS_AT_ONCE
from tasks.models import Task
from tasks.models.task import database
from tasks.states import Status, WaitingFor


@again
def expire(*, now: datetime, limit: int = ROWS_AT_ONCE) -> int:
    """Fail pending tasks whose ``expires_at`` has passed. Returns how many."""
    alias = database()
    with transaction.atomic(using=alias, savepoint=False):
        late = Task.objects.using(alias).filter(status=Status.PENDING, expires_at__lte=now)
        locked = late.order_by("expires_at").select_for_update(skip_locked=True)
        queue_of = dict(locked.values_list("pk", "queue")[:limit])
        transaction.on_commit(partial(tally.here.moved, states.EXPIRE.name, queue_of.values()), using=alias)
        return (
            Task.objects.using(alias)
            .filter(pk__in=list(queue_of))
            .move(
                states.EXPIRE,
                finished_at=now,
                waiting_for=None,
                error=error_json(_EXPIRED, attempt=None),
                fingerprint=None,  # it is no failure of the kind that its last attempt was
            )
        )


_EXPIRED = ErrorReport.of(TaskExpired, "expires_at passed before an attempt began.")


def park(known: Collection[str], *, limit: int = ROWS_AT_ONCE) -> int:
    """Set aside ready tasks that no live worker knows, so that claims need not walk over them.

    ``known``: the handlers of all live workers. Looks at the ``limit`` tasks of each queue that
    would be claimed next; what lies behind them is in nobody's way. Returns how many.
    """
    return sum(_park_in(queue, known, limit) for queue in Book(database()).ready_queues())


@again
def _park_in(queue: str, known: Collection[str], limit: int) -> int:
    ready = Task.objects.using(database()).filter(status=Status.PENDING, ready_at__isnull=False)
    first = ready.filter(queue=queue).order_by("-priority", "ready_at", "id")
    strangers = [pk for pk, handler in first.values_list("pk", "handler")[:limit] if handler not in known]
    if not strangers:
        return 0
    return ready.filter(pk__in=strangers).update(ready_at=None, waiting_for=WaitingFor.HANDLER)


@again
def unpark(known: Collection[str], *, now: datetime, limit: int = ROWS_AT_ONCE) -> int:
    """Make ready again what waits for one of these handlers. Returns how many, up to ``limit``."""
    alias = database()
    parked = Task.objects.using(alias).filter(waiting_for=WaitingFor.HANDLER, handler__in=known)
    if not parked.exists():
        return 0
    with transaction.atomic(using=alias, savepoint=False):
        return (
            Task.objects.using(alias)
            .filter(pk__in=_locked(parked.order_by(), limit))  # any: to sort a million takes its time
            .update(ready_at=now, waiting_for=None)
        )


def _locked(tasks: QuerySet[Task], limit: int) -> list[UUID]:
    return list(tasks.select_for_update(skip_locked=True).values_list("pk", flat=True)[:limit])
