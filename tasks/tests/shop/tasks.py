"""Handlers as a Django project would have them, for the tests of ``django.tasks``."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django import tasks as django_tasks
from django.dispatch import Signal
from django.tasks.signals import task_finished, task_started

from tasks.context import ServiceContext
from tasks.errors import Retry
from tasks.registry import ServiceTask


def task(**options: Any) -> Callable[[Callable[..., Any]], ServiceTask]:
    """Django's ``@task``, whose stubs know Django's own options alone."""
    decorator: Any = django_tasks.task
    made: Callable[[Callable[..., Any]], ServiceTask] = decorator(**options)
    return made


@task()
def note(*args: Any, **kwargs: Any) -> None:
    """Takes anything."""


@task()
def double(number: int) -> int:
    return 2 * number


@task()
async def double_async(number: int) -> int:
    return 2 * number


@task(
    public_name="tests.report",
    queue_name="reports",
    priority=7,
    max_attempts=3,
    timeout=timedelta(seconds=90),
    title="Monthly report",
    tags=["paper", "monthly"],
)
def report(month: str) -> str:
    return f"report of {month}"


@task(takes_context=True)
def who_am_i(context: ServiceContext) -> list[Any]:
    return [context.task_id, context.attempt, context.fence]


def plain() -> None:
    """Not a Task."""


# --- for real workers: what can only be seen in another process


@task(takes_context=True)
async def look_up_myself(context: ServiceContext) -> list[Any]:
    """Reads the database inside its event loop, in both ways."""
    result = await look_up_myself.aget_result(context.task_id)
    return [context.task_result.status, context.task_result.attempts, result == context.task_result]


@task(takes_context=True)
def fail_then_chain(context: ServiceContext, number: int) -> str:
    """Fails once, then enqueues another task and returns its id."""
    if context.attempt == 1:
        raise Retry(in_=timedelta(0))
    return double.enqueue(number).id


@task(max_attempts=1)
def fail() -> None:
    raise ValueError("no")


def note_signals(path: str) -> None:
    """Append a line to a file for each ``task_started`` and ``task_finished``, and then stumble."""

    def note(signal: Signal, task_result: Any, **kwargs: Any) -> None:
        name = "started" if signal is task_started else "finished"
        with open(path, "a") as file:
            file.write(f"{name} {task_result.task.name} {task_result.attempts} {task_result.status}\n")
        raise RuntimeError("a receiver's own error")

    task_started.connect(note, weak=False)
    task_finished.connect(note, weak=False)


if "SHOP_SIGNALS" in os.environ:
    note_signals(os.environ["SHOP_SIGNALS"])
