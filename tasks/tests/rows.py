"""Rows in any state, as the constraints want them, for tests to start from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

from django.utils import timezone

from tasks.contract import Claimant, Lease
from tasks.models import Task, Worker
from tasks.states import FINISHED, Status

MakeTask = Callable[..., Task]
LeasedTask = Callable[..., Lease]
Steal = Callable[[Lease], Lease]

HANDLER = "demo.echo"
LEASE_FOR = timedelta(seconds=30)


def columns_for(status: Status) -> dict[str, Any]:
    """What the constraints want of a row in this status; a pending one is ready."""
    now = timezone.now()
    return {
        "ready_at": now,
        "waiting_for": None,
        "lease_expires_at": now + LEASE_FOR if status == Status.PROCESSING else None,
        "finished_at": now if status in FINISHED else None,
    }


def row_of(lease: Lease) -> dict[str, Any]:
    """Every column of the leased task, as it is now."""
    return {**Task.objects.filter(pk=lease.task_id).values().get()}


def claimant(*queues: str, worker_id: str = "host:1:worker", **fields: Any) -> Claimant:
    """A worker that knows ``demo.echo``; without queues it serves all of them."""
    given: dict[str, Any] = {
        "handlers": (HANDLER,),
        "queues": queues or None,
        "lease_for": LEASE_FOR,
        **fields,
    }
    return Claimant(worker_id=worker_id, **given)


_numbers = count(1)


def make_worker(*queues: str, unseen: timedelta = timedelta(0), **columns: Any) -> Worker:
    """The row of a worker that was seen so long ago; without queues it serves all of them."""
    seen = timezone.now() - unseen
    given: dict[str, Any] = {
        "id": f"host:{next(_numbers)}:row",
        "host": "host",
        "pid": 1,
        "executors": 3,
        "queues": list(queues) or None,
        "handlers": [HANDLER],
        "started_at": seen,
        "last_seen_at": seen,
        **columns,
    }
    return Worker.objects.create(**given)
