"""What people and clients may do to tasks that exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import batched
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F

from tasks import bell, clock, states, tally
from tasks.book import Book
from tasks.contract import ErrorReport
from tasks.errors import TaskCancelled
from tasks.lifecycle.again import again
from tasks.lifecycle.intake import expect_small
from tasks.lifecycle.keys import ROUNDS, holders, without_their_key
from tasks.lifecycle.settling import error_json
from tasks.limits import ROWS_AT_ONCE
from tasks.models import Task, TaskQuerySet
from tasks.models.task import database
from tasks.states import FINISHED, Status, WaitingFor
from tasks.storable import to_json


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What a wish to cancel came to, for each task that exists."""

    cancelled: list[UUID] = field(default_factory=list)  # were pending: no attempt starts any more
    requested: list[UUID] = field(default_factory=list)  # are running, and asked to stop
    finished: dict[UUID, Status] = field(default_factory=dict)  # too late: unchanged


def cancel(ids: Sequence[UUID], *, reason: str | None = None) -> Cancellation:
    """Cancel what is pending, and ask what is running to stop. Safe to repeat: the first reason counts."""
    answer = Cancellation()
    for page in batched(dict.fromkeys(ids), ROWS_AT_ONCE):
        _cancel_page(page, answer, reason)
    return answer


@again
def _cancel_page(ids: Sequence[UUID], answer: Cancellation, reason: str | None) -> None:
    alias = database()
    with transaction.atomic(using=alias, savepoint=False):
        now = clock.now(alias)
        tasks = Task.objects.using(alias)
        locked = tasks.select_for_update().filter(pk__in=ids).order_by("pk")
        found = list(locked.values_list("pk", "status", "queue"))
        status_of = {pk: Status(status) for pk, status, _ in found}
        pending = [pk for pk, status in status_of.items() if status in states.CANCEL.sources]
        running = [pk for pk, status in status_of.items() if status == Status.PROCESSING]
        tasks.filter(pk__in=pending).move(
            states.CANCEL,
            finished_at=now,
            waiting_for=None,
            cancel_reason=reason,
            error=error_json(_BY_HAND.because(reason), attempt=None),
        )
        unasked = tasks.filter(pk__in=running, cancel_requested_at=None)
        unasked.update(cancel_requested_at=now, cancel_reason=reason)
        gone_from = [queue for _, status, queue in found if status in states.CANCEL.sources]
        transaction.on_commit(partial(tally.here.moved, states.CANCEL.name, gone_from), using=alias)
        bell.ring_on_commit(alias)
    answer.cancelled.extend(pending)
    answer.requested.extend(running)
    answer.finished.update((pk, status) for pk, status in status_of.items() if status in FINISHED)


@again
def purge(queue: str, *, before: datetime, reason: str | None = None, limit: int = ROWS_AT_ONCE) -> int:
    """Cancel pending tasks of a queue that were made before that time; what runs goes on.

    Returns how many, up to ``limit``: the caller goes on until there are none.
    """
    alias = database()
    with transaction.atomic(using=alias, savepoint=False):
        tasks = Task.objects.using(alias)
        pending = tasks.filter(queue=queue, status=Status.PENDING, created_at__lte=before)
        ids = [
            pk
            for ready in (False, True)  # each by an index of its own
            for pk in _locked_ids(pending.filter(ready_at__isnull=not ready), limit)
        ][:limit]
        moved = tasks.filter(pk__in=ids).move(
            states.CANCEL,
            finished_at=clock.now(alias),
            waiting_for=None,
            cancel_reason=reason,
            error=error_json(_BY_HAND.because(reason), attempt=None),
        )
        transaction.on_commit(partial(tally.here.moved, states.CANCEL.name, [queue] * moved), using=alias)
    return moved


def _locked_ids(tasks: TaskQuerySet, limit: int) -> list[UUID]:
    """Any of them: to sort a million takes its time. What another one is just moving is passed by."""
    return list(tasks.select_for_update(skip_locked=True).order_by().values_list("pk", flat=True)[:limit])


_BY_HAND = ErrorReport.of(TaskCancelled, "Cancelled while it was pending.")


def retry(
    ids: Sequence[UUID], *, run_at: datetime | None = None, payload: dict[str, Any] | None = None
) -> int:
    """Make finished tasks pending again, with a new budget of attempts; their history stays.

    ``payload``: another one; None: as before. A task that had a unique key takes it again; one whose
    key another task has by now is left alone, like what is not finished. Returns how many were moved.
    Raises TooLarge.
    """
    return sum(_retry_page(page, run_at, payload) for page in batched(ids, ROWS_AT_ONCE))


def _retry_page(ids: Sequence[UUID], run_at: datetime | None, payload: dict[str, Any] | None) -> int:
    for _ in range(ROUNDS):
        try:
            return _retry_at_once(ids, run_at, payload)
        except IntegrityError:  # between the look and the move, somebody took a key
            continue
    return _retry_at_once(ids, run_at, payload)


@again
def _retry_at_once(ids: Sequence[UUID], run_at: datetime | None, payload: dict[str, Any] | None) -> int:
    alias = database()
    with transaction.atomic(using=alias):  # a savepoint within a caller's: for the IntegrityError
        now = clock.now(alias)
        tasks = Task.objects.using(alias)
        locked = tasks.select_for_update().filter(pk__in=ids, status__in=states.RETRY.sources).order_by("pk")
        finished = _without_rivals(locked, now)
        if payload is not None:
            for args in tasks.filter(pk__in=finished).values_list("args", flat=True):
                expect_small(to_json(args), to_json(payload))
        moved = tasks.filter(pk__in=finished).move(
            states.RETRY,
            **_when(run_at, now),
            **({} if payload is None else {"payload": payload}),
            expires_at=None,  # asked for by hand, now
            attempts_before=F("attempt"),
            crashes=0,
            releases=0,
            cancel_requested_at=None,
            cancel_reason=None,
            finished_at=None,
            result=None,
            unique_fence=F("fence"),
        )
        bell.ring_on_commit(alias)
    return moved


def _without_rivals(locked: TaskQuerySet, now: datetime) -> list[UUID]:
    """Those whose unique key, if they had one, no other task has by now."""
    finished = list(locked.values_list("pk", "owner", "unique_key", "unique_while"))
    keys = {pk: (owner, key) for pk, owner, key, while_ in finished if key is not None and while_}
    blocked = without_their_key(Book(database()), keys, now) if keys else {}
    return [pk for pk, *_ in finished if pk not in blocked]


def _when(run_at: datetime | None, now: datetime) -> Mapping[str, Any]:
    if run_at is not None and run_at > now:
        return {"run_at": run_at, "ready_at": None, "waiting_for": WaitingFor.TIME}
    return {"run_at": run_at, "ready_at": now}


def holder_of_its_key(task_id: UUID) -> UUID | None:
    """Who keeps a finished task from being retried: the task that has its unique key now."""
    alias = database()
    task = Task.objects.using(alias).filter(pk=task_id).first()
    if task is None or task.unique_key is None or task.unique_while is None:
        return None
    held = holders(Book(alias), [(task.owner, task.unique_key)], clock.now(alias))
    return next((holder.id for holder in held.values() if holder.id != task_id and not holder.over), None)
