"""What a request that makes tasks is told of them; of those that were there already, what it may know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.api.answers import json_bytes
from tasks.api.creation import Answered
from tasks.contract import Enqueued
from tasks.grants import Grant, Scope
from tasks.pending import Lately, Situation
from tasks.resource import resource

lately = Lately()

MADE, NOTHING_MADE = 201, 200  # statuses of HTTP


def one_made(grant: Grant, tasks: Sequence[Enqueued]) -> Answered:
    """201, or 200 with the task that has its unique key."""
    [task] = tasks
    body = json_bytes(_shown(task, grant, lately())).decode()
    return Answered(status=_status(tasks), body=body, location=f"/tasks/{task.id}")


def many_made(grant: Grant, tasks: Sequence[Enqueued]) -> Answered:
    """201 if at least one was made."""
    situation = lately()
    items = [_shown(task, grant, situation) for task in tasks]
    return Answered(status=_status(tasks), body=json_bytes({"items": items}).decode())


def _status(tasks: Sequence[Enqueued]) -> int:
    return NOTHING_MADE if all(task.deduplicated for task in tasks) else MADE


def _shown(task: Enqueued, grant: Grant, situation: Situation) -> dict[str, Any]:
    if not task.deduplicated:
        return resource(task, situation)
    shown = resource(task, situation) | {"deduplicated": True}
    return shown if grant.allows(Scope.READ) else shown | _NOT_FOR_ALL


# of the task of another request, to one that may make tasks and not read them
_NOT_FOR_ALL: dict[str, Any] = {
    "title": "",
    "payload": {},
    "tags": [],
    "result": None,
    "error": None,
    "worker": None,
    "cancel_reason": None,
}
