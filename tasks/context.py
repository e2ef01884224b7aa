"""What a handler that takes a context is told about its run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db import connections
from django.tasks import Task, TaskContext, TaskResult

from tasks import tracing
from tasks.contract import Lease

# generic in their stubs alone: for annotations
type AnyResult = TaskResult[..., Any]
type AnyContext = TaskContext[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceContext(TaskContext):  # type: ignore[type-arg, misc]  # its stubs: generic, and not frozen
    """Django's TaskContext, with what a handler needs to make its side effects safe to repeat.

    ``task_id`` is the same in every attempt, ``attempt`` counts from 1, and ``fence`` is higher
    in each run: whoever stores it can refuse a run that was thought dead. ``traceparent`` is the
    W3C trace context of this run, to hand on. None of them asks the database; ``task_result`` does,
    when it is first read.
    """

    task_result: AnyResult = field(init=False, repr=False, compare=False)  # unset: see __getattr__
    task_id: str
    attempt: int = field()  # "field()": else the property that it replaces would be its default
    fence: int
    traceparent: str | None = field(default=None, repr=False)
    load: Callable[[], AnyResult] = field(repr=False, compare=False)

    def __getattr__(self, name: str) -> Any:
        """Only called for what is not set."""
        if name != "task_result":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        result = self.load()
        object.__setattr__(self, name, result)
        return result

    @classmethod
    def around(cls, context: AnyContext) -> ServiceContext:
        """For a run by another backend, which numbers no fences: its attempts go up as well."""
        result = context.task_result
        return cls(task_id=result.id, attempt=context.attempt, fence=context.attempt, load=lambda: result)


def context_of(lease: Lease, task: Task[..., Any]) -> ServiceContext:
    """The context of the run that this lease is for."""
    task_id = str(lease.task_id)
    load = partial(_load_result, task, task_id)
    return ServiceContext(
        task_id=task_id,
        attempt=lease.attempt,
        fence=lease.fence,
        traceparent=tracing.current() or lease.traceparent,
        load=load,
    )


def _load_result(task: Task[..., Any], task_id: str) -> AnyResult:
    """Also inside an event loop, where Django allows no query: in a thread then, with its own connection."""
    backend = task.get_backend()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return backend.get_result(task_id)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_and_close, partial(backend.get_result, task_id)).result()


def _and_close(load: Callable[[], AnyResult]) -> AnyResult:
    try:
        return load()
    finally:
        connections.close_all()
