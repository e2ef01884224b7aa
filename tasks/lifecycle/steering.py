"""What people and clients may do to tasks that exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import batched
from uuid import UUID

from django.db import transaction
from django.db.models import F

from tasks import bell, clock, states
from tasks.contract import ErrorReport
from tasks.errors import TaskCancelled
from tasks.lifecycle.again import again
from tasks.lifecycle.settling import error_json
from tasks.limits import ROWS_AT_ONCE
from tasks.models import Task
from tasks.models.task import database
from tasks.states import FINISHED, Status


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What a wish to cancel came to, for each task that exists."""

    cancelled: list[UUID] = field(default_factory=list)  # were pending: no attempt starts any more
    requested: list[UUID] = field(default_factory=list)  # are running, and asked to stop
    finished: dict[UUID, Status] = field(default_factory=dict)  # too late: unchanged


def cancel(ids: Sequence[UUID]) -> Cancellation:
    """Cancel what is pending, and ask what is running to stop. Safe to repeat."""
    answer = Cancellation()
    for page in batched(dict.fromkeys(ids), ROWS_AT_ONCE):
        _cancel_page(page, answer)
    return answer


@again
def _cancel_page(ids: Sequence[UUID], answer: Cancellation) -> None:
    alias = database()
    with transaction.atomic(using=alias, savepoint=False):
        now = clock.now(alias)
        tasks = Task.objects.using(alias)
        locked = tasks.select_for_update().filter(pk__in=ids).order_by("pk")
        status_of = {pk: Status(status) for pk, status in locked.values_list("pk", "status")}
        pending = [pk for pk, status in status_of.items() if status in states.CANCEL.sources]
        running = [pk for pk, status in status_of.items() if status == Status.PROCESSING]
        tasks.filter(pk__in=pending).move(
            states.CANCEL, finished_at=now, waiting_for=None, error=error_json(_BY_HAND, attempt=None)
        )
        tasks.filter(pk__in=running, cancel_requested_at=None).update(cancel_requested_at=now)
        bell.ring_on_commit(alias)
    answer.cancelled.extend(pending)
    answer.requested.extend(running)
    answer.finished.update((pk, status) for pk, status in status_of.items() if status in FINISHED)


_BY_HAND = ErrorReport.of(TaskCancelled, "Cancelled while it was pending.")


def retry(ids: Sequence[UUID]) -> int:
    """Make finished tasks ready again, with a new budget of attempts; their history stays.

    What is not finished is left alone. Returns how many were moved.
    """
    return sum(_retry_page(page) for page in batched(ids, ROWS_AT_ONCE))


@again
def _retry_page(ids: Sequence[UUID]) -> int:
    alias = database()
    with transaction.atomic(using=alias, savepoint=False):
        tasks = Task.objects.using(alias)
        locked = tasks.select_for_update().filter(pk__in=ids, status__in=states.RETRY.sources).order_by("pk")
        finished = list(locked.values_list("pk", flat=True))  # everybody locks in this order
        moved = tasks.filter(pk__in=finished).move(
            states.RETRY,
            ready_at=clock.now(alias),
            run_at=None,
            expires_at=None,  # asked for by hand, now
            attempts_before=F("attempt"),
            crashes=0,
            releases=0,
            cancel_requested_at=None,
            finished_at=None,
            result=None,
        )
        bell.ring_on_commit(alias)
    return moved
