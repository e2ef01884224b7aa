"""Between ``django.tasks`` and the service's values: specs from calls, results from leases. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.tasks import TaskResult, TaskResultStatus
from django.tasks.base import TaskError
from django.tasks.exceptions import InvalidTask
from django.utils.json import normalize_json

from tasks.context import AnyResult
from tasks.contract import ErrorReport, Lease, TaskSpec
from tasks.decide import Decision
from tasks.ids import made_at
from tasks.registry import AnyTask, ServiceTask, is_importable
from tasks.states import Status
from tasks.storable import to_json

DJANGO_STATUS = {
    Status.PENDING: TaskResultStatus.READY,
    Status.PROCESSING: TaskResultStatus.RUNNING,
    Status.COMPLETED: TaskResultStatus.SUCCESSFUL,
    Status.FAILED: TaskResultStatus.FAILED,
    Status.CANCELLED: TaskResultStatus.FAILED,
}


def spec_from(task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskSpec:
    """What ``task.enqueue(*args, **kwargs)`` asks for, with the arguments as the handler will get them.

    Raises TypeError or ValueError for arguments that JSON or a database cannot keep, and InvalidTask
    for what no worker could run.
    """
    if not isinstance(task, ServiceTask):
        raise InvalidTask(f"{task.module_path} belongs to another backend: name ours in @task(backend=...).")
    if not is_importable(task):
        raise InvalidTask(
            f"{task.module_path} cannot be imported as a Task by another process: a handler is a function "
            "of a module, not of __main__, and keeps the name that it was defined with."
        )
    return TaskSpec(
        handler=task.handler,
        title=task.title,
        args=_as_kept([*args]),
        payload=_as_kept(dict(kwargs)),
        queue=task.queue_name,
        priority=task.priority,
        tags=task.tags,
        run_at=task.run_after,
        max_attempts=task.max_attempts,
        timeout=task.timeout,
    )


def _as_kept(value: Any) -> Any:
    """The value after its way through the database: tuples are lists, bytes text, enums plain."""
    try:
        return json.loads(to_json(normalize_json(value)))
    except RecursionError as error:
        raise ValueError("The arguments are nested too deep.") from error


def running_result(lease: Lease, task: AnyTask, args: list[Any], kwargs: dict[str, Any]) -> AnyResult:
    """What ``task_started`` tells of an attempt that begins: what its lease knows.

    Of earlier attempts that is only their number; ``refresh()`` reads the rest from the
    database. ``args`` and ``kwargs`` are the lease's, parsed.
    """
    result = TaskResult(
        task=task,
        id=str(lease.task_id),
        status=TaskResultStatus.RUNNING,
        enqueued_at=made_at(lease.task_id),
        started_at=lease.claimed_at if lease.attempt == 1 else None,
        finished_at=None,
        last_attempted_at=lease.claimed_at,
        args=[],
        kwargs={},
        backend=task.backend,
        errors=[],
        worker_ids=[""] * (lease.attempt - 1) + [lease.worker_id],
    )
    # past the constructor, which would copy them to make sure that they are JSON: they are
    object.__setattr__(result, "args", args)
    object.__setattr__(result, "kwargs", kwargs)
    return result


def finished_result(
    lease: Lease, task: AnyTask, args: list[Any], kwargs: dict[str, Any], decision: Decision
) -> AnyResult:
    """What ``task_finished`` tells of an attempt after which none follows."""
    result = running_result(lease, task, args, kwargs)
    object.__setattr__(result, "status", DJANGO_STATUS[decision.transition.target])
    object.__setattr__(result, "finished_at", decision.finished_at)
    if decision.result is not None:
        object.__setattr__(result, "_return_value", json.loads(decision.result))
    if decision.error is not None:
        result.errors.append(task_error(decision.error))
    return result


def task_error(error: ErrorReport) -> TaskError:
    """Where there is no traceback, its place is taken by what there is to say."""
    traceback = error.traceback or f"{error.type}: {error.message}"
    return TaskError(exception_class_path=error.type, traceback=traceback)
