"""What clients may change of a task that has not begun, and taking tasks out of the table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from tasks import bell, clock
from tasks.errors import FieldError, InvalidFields
from tasks.lifecycle.again import again
from tasks.lifecycle.intake import expect_small
from tasks.limits import expires_too_soon
from tasks.models import Task
from tasks.models.task import database
from tasks.states import Status, WaitingFor
from tasks.storable import to_json

DELETABLE = frozenset(Status) - {Status.PROCESSING}


@again
def change(task_id: UUID, changes: Mapping[str, Any]) -> Status | None:
    """Change some of ``CHANGEABLE`` of a pending task. Returns its status; None: there is no such task.

    If that is another than pending, nothing was changed. A ``run_at`` that is not in the future, or
    None, makes it ready. Raises InvalidFields or TooLarge.
    """
    alias = database()
    with transaction.atomic(using=alias):
        task = Task.objects.using(alias).select_for_update().filter(pk=task_id).first()
        if task is None or task.status != Status.PENDING:
            return None if task is None else Status(task.status)
        now = clock.now(alias)
        _expect_possible(task, changes, now)
        columns = {**changes}
        if "run_at" in changes:
            columns |= _waiting(task, changes["run_at"], now)
        Task.objects.using(alias).filter(pk=task_id).update(**columns)
        bell.ring_on_commit(alias)
    return Status.PENDING


def _expect_possible(task: Task, changes: Mapping[str, Any], now: datetime) -> None:
    """What the change makes of the whole task."""
    if "payload" in changes:
        expect_small(to_json(task.args), to_json(changes["payload"]))
    used = task.attempt - task.attempts_before
    if "max_attempts" in changes and changes["max_attempts"] <= used:
        raise _impossible("max_attempts", f"must be more than the {used} that were made")
    run_at, expires_at = (changes.get(name, getattr(task, name)) for name in ("run_at", "expires_at"))
    if {"run_at", "expires_at"} & set(changes) and expires_too_soon(run_at, expires_at):
        raise _impossible("expires_at", "must be later than run_at")
    if (end := changes.get("expires_at")) is not None and end <= now:
        raise _impossible("expires_at", "must be in the future")


def _impossible(name: str, text: str) -> InvalidFields:
    return InvalidFields([FieldError(code="conflict", detail=f"{name} {text}", pointer=f"/{name}")])


def run_now(task_id: UUID) -> Status | None:
    """As ``change``: a pending task need not wait for its time any more."""
    return change(task_id, {"run_at": None})


def _waiting(task: Task, run_at: datetime | None, now: datetime) -> dict[str, Any]:
    """Whether it is ready then, and since when; who knows its handler is another question."""
    if run_at is not None and run_at > now:
        return {"ready_at": None, "waiting_for": WaitingFor.TIME}
    if task.waiting_for == WaitingFor.HANDLER:
        return {}
    return {"ready_at": task.ready_at or now, "waiting_for": None}


@again
def delete(ids: Sequence[UUID], *, statuses: Collection[Status] = DELETABLE) -> dict[UUID, Status]:
    """Delete tasks and their attempts, if they are in one of these statuses: never what is running.

    Returns those that stay because of their status; unknown ones are none.
    """
    alias = database()
    with transaction.atomic(using=alias):
        locked = Task.objects.using(alias).select_for_update().filter(pk__in=ids).order_by("pk")
        status_of = {pk: Status(status) for pk, status in locked.values_list("pk", "status")}
        gone = [pk for pk, status in status_of.items() if status in DELETABLE.intersection(statuses)]
        Task.objects.using(alias).filter(pk__in=gone).delete()
    stay = set(status_of).difference(gone)
    return {pk: status for pk, status in status_of.items() if pk in stay}
