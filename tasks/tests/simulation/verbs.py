"""The verbs of the service over its database, at a time and with chances that the test gives."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from typing import Any
from unittest.mock import patch
from uuid import UUID

from django.db import transaction
from django.db.models import Count

from tasks import clock, lifecycle
from tasks.contract import Claimant, Lease, Outcome, TaskSpec
from tasks.lifecycle import Cancellation, Extension, Settlement, intake, settling
from tasks.models import Attempt, Task
from tasks.models.task import database
from tasks.states import Status, WaitingFor
from tasks.tests.simulation.desk import BEGINNING, HANDLER, LEASE_FOR, QUEUES, BegunBy, Row, Wish
from tasks.tests.simulation.memory import IDS

PLAIN = (
    "id", "queue", "priority", "max_attempts", "run_at", "expires_at", "ready_at", "attempt",
    "attempts_before", "crashes", "releases", "fence", "lease_expires_at", "worker_id", "finished_at",
    "unique_key", "unique_while", "unique_until", "unique_fence",
)  # fmt: skip


class Verbs:
    def __init__(self) -> None:
        self.now = BEGINNING

    def enqueue(self, wish: Wish) -> UUID:
        spec = TaskSpec(
            handler=HANDLER,
            queue=wish.queue,
            priority=wish.priority,
            max_attempts=wish.max_attempts,
            run_at=wish.run_at,
            expires_at=wish.expires_at,
            unique=wish.unique,
        )
        [made] = lifecycle.enqueue([spec])
        return made.id

    def claim(self, worker_id: str, *, limit: int, ahead: int = 0) -> list[Lease]:
        who = Claimant(worker_id=worker_id, handlers=(HANDLER,), queues=QUEUES, lease_for=LEASE_FOR)
        return lifecycle.claim(who, limit=limit, ahead=ahead, now=self.now)

    def extend(self, leases: Collection[Lease]) -> Extension:
        return lifecycle.extend(leases, by=LEASE_FOR, now=self.now)

    def settle(self, outcomes: Sequence[tuple[Lease, Outcome]]) -> Settlement:
        return lifecycle.settle(outcomes, now=self.now)

    def reap(self, *, spared: Collection[UUID], dead: Collection[str], begun_by: BegunBy) -> Settlement:
        return lifecycle.reap(now=self.now, spared=spared, dead_workers=dead, begun_by=begun_by)

    def asked_to_stop(self, worker_id: str) -> Collection[UUID]:
        return lifecycle.asked_to_stop(worker_id)

    def cancel(self, ids: Sequence[UUID]) -> Cancellation:
        return lifecycle.cancel(ids)

    def retry(self, ids: Sequence[UUID], *, run_at: datetime | None = None) -> int:
        return lifecycle.retry(ids, run_at=run_at)

    def run_now(self, id_: UUID) -> Status | None:
        return lifecycle.run_now(id_)

    def expire(self) -> int:
        return lifecycle.expire(now=self.now)

    def rows(self) -> Mapping[UUID, Row]:
        found = Task.objects.order_by("pk").values(
            *PLAIN, "status", "waiting_for", "cancel_requested_at", "result", "error"
        )
        told = dict(Attempt.objects.order_by().values_list("task").annotate(Count("pk")))
        return {columns["id"]: _row(columns, told.get(columns["id"], 0)) for columns in found}


def _row(columns: dict[str, Any], recorded: int) -> Row:
    error, result, waiting_for = columns["error"], columns["result"], columns["waiting_for"]
    return Row(
        **{name: columns[name] for name in PLAIN},
        status=Status(columns["status"]),
        waiting_for=None if waiting_for is None else WaitingFor(waiting_for),
        cancel_requested=columns["cancel_requested_at"] is not None,
        result=None if result is None else json.dumps(result),
        error_type=error["type"] if isinstance(error, dict) else None,
        recorded=recorded,
    )


@contextmanager
def verbs(rng: random.Random) -> Iterator[Verbs]:
    """On tables that are left as they were found: all of it is taken back at the end."""
    desk, ids = Verbs(), iter(IDS[number] for number in count())
    with (
        transaction.atomic(using=database()),
        patch.object(clock, "now", lambda alias: desk.now),
        patch.object(intake, "new_task_id", lambda: next(ids)),
        patch.object(settling, "_rng", rng),
    ):
        yield desk
        transaction.set_rollback(True, using=database())
