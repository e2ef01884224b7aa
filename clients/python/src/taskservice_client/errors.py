"""What can go wrong, as exceptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taskservice_client.task import Task


class TaskServiceError(Exception):
    """All of them."""


class Unreachable(TaskServiceError):
    """Nothing answered, for as long as was tried; whether the request arrived is unknown."""


class ApiError(TaskServiceError):
    """The service refused: a problem of RFC 9457."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("type", "")).rpartition("/")[2]  # for programs
        self.detail = str(problem.get("detail", ""))  # for people
        self.errors: Sequence[Mapping[str, Any]] = problem.get("errors", ())  # by member
        super().__init__(f"{status} {self.code}: {self.detail}")


class TaskFailed(TaskServiceError):
    """The task has finished without a result."""

    def __init__(self, task: Task) -> None:
        self.task = task
        error = task.error or {}
        super().__init__(
            f"task {task.id} {task.status}: {error.get('type', '')} {error.get('message', '')}".rstrip()
        )
