"""What the tables are, and the questions one may ask of them."""

from __future__ import annotations

from tasks.models.attempt import Attempt
from tasks.models.failure import Failure
from tasks.models.idempotency import Idempotency
from tasks.models.login import LoginTries
from tasks.models.operation import Operation
from tasks.models.queue import Queue
from tasks.models.rollup import Rollup
from tasks.models.task import Task, TaskQuerySet
from tasks.models.token import Token
from tasks.models.total import Total
from tasks.models.worker import Worker

__all__ = [
    "Attempt",
    "Failure",
    "Idempotency",
    "LoginTries",
    "Operation",
    "Queue",
    "Rollup",
    "Task",
    "TaskQuerySet",
    "Token",
    "Total",
    "Worker",
]
