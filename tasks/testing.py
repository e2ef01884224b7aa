"""Backends for tests of code that enqueues: Django's two, with the service's options and checks.

In the settings of the tests, or in ``override_settings(TASKS=...)``. They refuse what the service
would refuse, take any queue, and need neither database nor worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.tasks.backends import dummy, immediate
from django.tasks.backends.base import BaseTaskBackend

from tasks.registry import AnyTask, ServiceTask
from tasks.results import spec_from


class _LikeTheService(BaseTaskBackend):
    task_class = ServiceTask
    supports_defer = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, {"QUEUES": [], **params})

    def enqueue(self, task: AnyTask, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        spec = spec_from(task, args, kwargs)
        return super().enqueue(task, list(spec.args), spec.payload)


class ImmediateBackend(_LikeTheService, immediate.ImmediateBackend):
    """Runs the handler within ``enqueue``: one attempt, and at once, whatever ``run_after`` says."""


class DummyBackend(_LikeTheService, dummy.DummyBackend):
    """Runs nothing: ``default_task_backend.results`` holds what was enqueued, ``clear()`` forgets it."""
