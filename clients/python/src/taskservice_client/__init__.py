"""A client of the task service: create tasks, wait for them, read their results."""

from __future__ import annotations

from taskservice_client.asynchronous import AsyncClient
from taskservice_client.errors import ApiError, TaskFailed, TaskServiceError, Unreachable
from taskservice_client.synchronous import Client
from taskservice_client.task import Attempt, Task

__all__ = [
    "ApiError",
    "AsyncClient",
    "Attempt",
    "Client",
    "Task",
    "TaskFailed",
    "TaskServiceError",
    "Unreachable",
]
