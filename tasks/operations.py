"""Doing one thing to all tasks that match: in the background, by a task of its own, in small steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import QuerySet

from tasks import clock, lifecycle
from tasks.contract import TaskSpec
from tasks.errors import GiveUp
from tasks.lifecycle.again import again
from tasks.models import Operation, Task
from tasks.models.task import database
from tasks.selection import LIVE, Counted, Place, Selection
from tasks.states import FINISHED, Status

HANDLER = "tasks.tasks.operate"
QUEUE = "default"
AT_ONCE = 200  # tasks of one transaction: nobody waits long for the write lock
LOOK_SECONDS = 0.5  # for them, before what was looked at so far is written down
LONGEST_PAUSE = 1.0  # seconds
TURN_SECONDS = 10.0  # then it hands its executor back, and another task goes on with it
REST = timedelta(seconds=2)  # until that one may begin: others come first now, whatever their priority
KEPT_FOR = timedelta(days=90)

Pull = Callable[..., dict[str, int]]  # of ids, and of what its verb takes: words -> how many


@dataclass(frozen=True, slots=True)
class Verb:
    name: str
    statuses: frozenset[Status]  # that it can move at all
    pull: Pull
    moved: str  # what is said first, also when it is none
    permission: str


def _retry(ids: Sequence[UUID], **given: Any) -> dict[str, int]:
    moved = lifecycle.retry(ids, **given)
    return {"queued again": moved, "not finished, or not there": len(ids) - moved}


def _cancel(ids: Sequence[UUID], **given: Any) -> dict[str, int]:
    answer = lifecycle.cancel(ids, **given)
    known = len(answer.cancelled) + len(answer.requested) + len(answer.finished)
    return {
        "cancelled": len(answer.cancelled),
        "asked to stop": len(answer.requested),
        "had finished": len(answer.finished),
        "not there": len(ids) - known,
    }


def _delete(ids: Sequence[UUID]) -> dict[str, int]:
    stay = lifecycle.delete(ids, statuses=FINISHED)
    return {"deleted": len(ids) - len(stay), "not finished any more": len(stay)}


VERBS: Mapping[str, Verb] = {
    "retry": Verb("retry", FINISHED, _retry, "queued again", "tasks.retry_task"),
    "cancel": Verb("cancel", LIVE, _cancel, "cancelled", "tasks.cancel_task"),
    "delete": Verb("delete", FINISHED, _delete, "deleted", "tasks.delete_task"),
}


def newest() -> UUID | None:
    """The newest task there is: what an operation leaves alone was made after it."""
    return Task.objects.using(database()).order_by("-pk").values_list("pk", flat=True).first()


def added(total: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {words: total.get(words, 0) + more.get(words, 0) for words in {**total, **more}}


# -- what its starter does


def start(
    verb: Verb, selection: Selection, *, newest: UUID | None, counted: Counted, user_key: str, user_name: str
) -> Operation:
    """Make an operation, and the task that does it, in one transaction."""
    alias = database()
    with transaction.atomic(using=alias):
        now = clock.now(alias)
        Operation.objects.using(alias).filter(ended_at__lt=now - KEPT_FOR).delete()
        operation = Operation.objects.using(alias).create(
            verb=verb.name,
            selection=selection.as_json(),
            newest=newest,
            expected=counted.number,
            is_whole=counted.whole,
            user_key=user_key,
            user_name=user_name,
            created_at=now,
            came_to={verb.moved: 0},
        )
        _enqueue(operation)
    return operation


def stop(operation: Operation, *, by: str) -> bool:
    """End it: no further task is touched. What was done stays done. False: it had ended."""
    alias = database()
    with transaction.atomic(using=alias):
        ended = _unended(operation.pk).update(ended_at=clock.now(alias), stopped_by=by)
        if ended:
            operation.refresh_from_db(fields=["task_id"])  # it may have been handed over since it was read
            if operation.task_id:
                lifecycle.cancel([operation.task_id], reason=f"Its operation was stopped by {by}.")
    return bool(ended)


def go_on(operation: Operation) -> bool:
    """Let it go on where it came to, after its task failed, was cancelled or was deleted."""
    with transaction.atomic(using=database()):
        current = _unended(operation.pk).select_for_update().first()
        if current is None:
            return False
        if lifecycle.retry([current.task_id] if current.task_id else []):
            return True
        if task_of(current):
            return False
        _enqueue(current)
    return True


def task_of(operation: Operation) -> Task | None:
    """The task that does it; None: it was deleted, or pruned."""
    pk = operation.task_id
    return None if pk is None else Task.objects.using(database()).filter(pk=pk).first()


def _enqueue(operation: Operation, *, run_at: datetime | None = None) -> None:
    spec = TaskSpec(
        handler=HANDLER,
        title=str(operation),
        payload={"operation": operation.pk},
        queue=QUEUE,
        priority=100,  # somebody waits for it
        max_attempts=20,  # it goes on where it was
        timeout=None,
        run_at=run_at,
    )
    [made] = lifecycle.enqueue([spec])
    operation.task_id = made.id
    operation.save(using=database(), update_fields=["task_id"])


# -- what its task does


def run(pk: int, *, task_id: UUID) -> dict[str, int]:
    """Do what is left of it, or a while's worth. Others who write get at least half of the time.

    ``task_id``: which task does it. One that handed it over and was killed before that was settled
    runs again, and finds that nothing is left to do for it.
    """
    if not Operation.objects.using(database()).filter(pk=pk).exists():
        raise GiveUp("There is no such operation.")
    began = time.monotonic()
    until = began + TURN_SECONDS
    while _unended(pk).filter(task_id=task_id).exists() and advance(pk):
        if time.monotonic() > until:
            _hand_over(pk, task_id)
            break
        time.sleep(min(time.monotonic() - began, LONGEST_PAUSE))
        began = time.monotonic()
    return dict(Operation.objects.using(database()).values_list("came_to", flat=True).get(pk=pk))


@again
def _hand_over(pk: int, task_id: UUID) -> None:
    """To a new task, in one commit: at any time there is one task that does it, and no second one."""
    alias = database()
    with transaction.atomic(using=alias):
        operation = _unended(pk).filter(task_id=task_id).select_for_update().first()
        if operation is not None:
            _enqueue(operation, run_at=clock.now(alias) + REST)


def advance(pk: int) -> bool:
    """Find the next few tasks, and do it to them. Returns whether that may have left any.

    What is done and how far it came is one commit, on condition that nobody else came further
    meanwhile: a crash, or a second run of the same task, repeats nothing and leaves nothing out.
    """
    operation = _unended(pk).first()
    if operation is None:
        return False
    ids, place = _next(operation)
    _commit(operation, ids, place)
    return True


def chosen(operation: Operation) -> Selection:
    """What it is about; never itself, nor another operation."""
    statuses = VERBS[operation.verb].statuses
    return Selection.from_json(
        operation.selection, newest=operation.newest, statuses=statuses, spared=HANDLER
    )


def _next(operation: Operation) -> tuple[list[UUID], UUID | None]:
    """The next that match, oldest first, and where looking ended; None: there are no more."""
    began, ids = time.monotonic(), list[UUID]()
    for step in chosen(operation).steps(Place(operation.cursor, newer=True)):
        ids += step.tasks.values_list("pk", flat=True)[: AT_ONCE - len(ids)]
        if len(ids) == AT_ONCE:
            return ids, ids[-1]
        if step.end is None or time.monotonic() - began > LOOK_SECONDS:
            return ids, step.end
    return ids, None


@again
def _commit(operation: Operation, ids: Sequence[UUID], place: UUID | None) -> None:
    alias, verb = database(), VERBS[operation.verb]
    with transaction.atomic(using=alias):
        current = _unended(operation.pk).filter(cursor=operation.cursor).select_for_update().first()
        if current is None:  # stopped, or another run was faster
            return
        matching = chosen(current).matches(Task.objects.using(alias).filter(pk__in=ids)).order_by("pk")
        still = list(matching.values_list("pk", flat=True))
        if still:
            current.came_to = added(current.came_to, verb.pull(still))
        current.asked += len(still)
        current.cursor = place or current.cursor
        if place is None:
            current.ended_at = clock.now(alias)
            _log_end(current)
        current.save(using=alias, update_fields=["came_to", "asked", "cursor", "ended_at"])


def _unended(pk: int) -> QuerySet[Operation]:
    return Operation.objects.using(database()).filter(pk=pk, ended_at=None)


def _log_end(operation: Operation) -> None:
    """In the history of who started it, if they are still there."""
    user = get_user_model()._default_manager.filter(pk=operation.user_key).first()
    if user is not None:
        LogEntry.objects.log_actions(
            user.pk, [operation], CHANGE, f"Ended: {told(operation.came_to)}", single_object=True
        )


def told(came_to: Mapping[str, int]) -> str:
    """``1,204 queued again; 3 not finished, or not there.``"""
    (first, number), *others = came_to.items()
    return (
        "; ".join([f"{number:,} {first}", *(f"{count:,} {words}" for words, count in others if count)]) + "."
    )
