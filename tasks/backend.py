"""The backend for ``django.tasks``: translates to and from the verbs, and holds no rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django import tasks as django_tasks
from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.base import TaskError
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
from django.tasks.signals import task_enqueued
from django.utils.module_loading import import_string

from tasks import registry
from tasks.context import AnyResult
from tasks.contract import Enqueued, ErrorReport
from tasks.errors import UnknownHandler
from tasks.registry import AnyTask, ServiceTask
from tasks.results import DJANGO_STATUS, spec_from, task_error
from tasks.states import Status

# Models are not ready when @task builds its backend, at import time: they are imported where they are used.
if TYPE_CHECKING:
    from tasks.models import Attempt, Task


class DatabaseBackend(BaseTaskBackend):
    """Tasks in the service's own table, run by ``manage.py runworkers``.

    The verbs are SQL over a blocking connection: the async methods are Django's, which run the
    sync ones in the thread that holds the caller's connection and its transaction.
    """

    task_class = ServiceTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def enqueue(self, task: AnyTask, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Make a row, within the caller's transaction if there is one; workers hear of it at the commit.

        Raises InvalidTask, TypeError or ValueError for arguments that cannot be kept, and TooLarge.
        """
        from tasks import lifecycle

        self.validate_task(task)
        [made] = lifecycle.enqueue([spec_from(task, args, kwargs)])
        result = result_from(made, (), task, backend=self.alias)
        # robust: the task is there, and a receiver that raises must not make it look otherwise
        task_enqueued.send_robust(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> AnyResult:
        """Of a task made anywhere: over HTTP, and by another alias too.

        Raises TaskResultDoesNotExist, and InvalidTask when its handler is no longer in the code.
        """
        row = _row(result_id)
        return result_from(row, _attempts(row), _handler(row.handler), backend=self.alias)

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """tasks.E007: the app that keeps the tasks is not installed."""
        if apps.is_installed("tasks"):
            return []
        return [Error(f"TASKS[{self.alias!r}] needs the app 'tasks' in INSTALLED_APPS.", id="tasks.E007")]


def _row(result_id: str) -> Task:
    from tasks.models import Task
    from tasks.models.task import database

    try:
        # as str: UUID() answers what is none with many kinds of errors
        return Task.objects.using(database()).get(pk=UUID(str(result_id)))
    except (ValueError, Task.DoesNotExist) as error:
        raise TaskResultDoesNotExist(result_id) from error


def _attempts(row: Task) -> Sequence[Attempt]:
    """The failed attempts of a task, oldest first; without a query where there can be none."""
    if row.attempt == (row.status in _OWN_ATTEMPT):
        return ()
    return list(row.attempts.order_by("fence"))


_OWN_ATTEMPT = (Status.PROCESSING, Status.COMPLETED)  # the last attempt has no row of its own


def _handler(name: str) -> AnyTask:
    """What a row names: by the registry, else imported, if it is a Task. Raises InvalidTask.

    The only place that turns a dotted path into code.
    """
    try:
        return registry.find(name)
    except UnknownHandler:
        pass
    try:
        found = import_string(name)
    except Exception as error:  # also what a module raises that is there and broken
        reason = f"{type(error).__name__}: {error}"
        raise InvalidTask(f"The handler {name!r} is not in the code any more ({reason}).") from error
    if not isinstance(found, django_tasks.Task):
        raise InvalidTask(f"The handler {name!r} is not in the code any more: that name is no Task.")
    return found


def result_from(
    row: Task | Enqueued, attempts: Sequence[Attempt], task: AnyTask, *, backend: str
) -> AnyResult:
    """What ``django.tasks`` shall know of a row and its failed attempts, oldest first.

    ``attempts`` may have been read after the row: what ended meanwhile is left out.
    """
    known = [one for one in attempts if one.fence < row.fence + (row.status not in _OWN_ATTEMPT)]
    result = django_tasks.TaskResult(
        task=_task_of(row, task, backend),
        id=str(row.id),
        status=DJANGO_STATUS[Status(row.status)],
        enqueued_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        last_attempted_at=row.attempted_at if row.attempt else None,
        args=list(row.args),
        kwargs=row.payload,
        backend=backend,
        errors=list(_errors(row, known)),
        worker_ids=_worker_ids(row, known),
    )
    if row.status == Status.COMPLETED:
        object.__setattr__(result, "_return_value", row.result)  # no argument of its constructor
    return result


def _task_of(row: Task | Enqueued, task: AnyTask, backend: str) -> AnyTask:
    """The handler with the options that this task was enqueued with."""
    timeout = row.timeout_seconds
    return registry.stored_form(
        task,
        backend=backend,
        queue_name=row.queue,
        priority=row.priority,
        run_after=row.run_at,
        title=row.title,
        tags=tuple(row.tags),
        max_attempts=row.max_attempts,
        timeout=None if timeout is None else timedelta(seconds=timeout),
    )


def _errors(row: Task | Enqueued, attempts: Sequence[Attempt]) -> Iterator[TaskError]:
    """One for each failed attempt, and one for an end that no attempt led to: cancelled, expired."""
    for one in attempts:
        yield task_error(ErrorReport(one.error_type, one.message, one.traceback))
    ended_badly = row.status in (Status.FAILED, Status.CANCELLED)
    if ended_badly and row.error and row.error["attempt"] not in [one.number for one in attempts]:
        yield task_error(ErrorReport(row.error["type"], row.error["message"]))


def _worker_ids(row: Task | Enqueued, attempts: Sequence[Attempt]) -> list[str]:
    """One for each attempt, since Django counts attempts by them.

    Empty for one whose worker is not known any more: a success, before somebody asked for
    another run of the task.
    """
    by_number = {one.number: one.worker_id for one in attempts}
    if row.status in _OWN_ATTEMPT:
        by_number[row.attempt] = row.worker_id
    return [by_number.get(number, "") for number in range(1, row.attempt + 1)]
