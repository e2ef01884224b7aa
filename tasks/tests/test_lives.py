"""Whole lives of tasks in the database: whatever happens in whatever order, some things never do."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from tasks import lifecycle, states
from tasks.contract import (
    Cancelled,
    Crashed,
    ErrorReport,
    Failed,
    Lapsed,
    Lease,
    Outcome,
    Released,
    Succeeded,
    TaskSpec,
    TimedOut,
)
from tasks.models import Attempt, Task
from tasks.states import FINISHED, Status
from tasks.tests.rows import HANDLER, claimant

STEPS = 120
TASKS = 5
BOOM = ErrorReport("builtins.ValueError", "boom")
OUTCOMES: list[Outcome] = [
    Succeeded("1"),
    Failed(BOOM),
    Failed(BOOM, retry_in=timedelta(0)),
    Failed(BOOM, retryable=False),
    Crashed("exit code 1"),
    TimedOut(timedelta(seconds=1)),
    Cancelled(),
    Lapsed(),
    Released(started=True),
    Released(started=False),
]
MOVES = {(source, change.target) for change in states.TRANSITIONS for source in change.sources}


class World:
    """Some tasks, the leases that were ever given out for them, and time that passes."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now: datetime = timezone.now()
        self.leases: list[Lease] = []
        self.succeeded: dict[UUID, set[int]] = defaultdict(set)
        specs = [TaskSpec(handler=HANDLER, max_attempts=self.rng.randint(1, 4)) for _ in range(TASKS)]
        self.ids = [made.id for made in lifecycle.enqueue(specs)]

    def rows(self) -> dict[UUID, dict[str, Any]]:
        return {row["id"]: {**row} for row in Task.objects.values()}

    def history(self) -> dict[UUID, list[int]]:
        """The attempts recorded for each task."""
        numbers = defaultdict(list)
        for id_, number in Attempt.objects.values_list("task_id", "number"):
            numbers[id_].append(number)
        return numbers

    def some(self) -> list[UUID]:
        return self.rng.sample(self.ids, self.rng.randint(1, 2))

    # -- what may happen

    def time_passes(self) -> None:
        self.now += timedelta(seconds=self.rng.choice([0.001, 1, 40, 4000]))

    def claim(self) -> None:
        who = claimant(worker_id=f"worker-{self.rng.randint(1, 2)}")
        ahead = self.rng.randint(0, 2)
        self.leases += lifecycle.claim(who, limit=self.rng.randint(0, 3), ahead=ahead, now=self.now)

    def settle(self) -> None:
        recent = self.leases[-6:]  # most of the others are long lost
        chosen = self.rng.sample(recent, min(len(recent), self.rng.randint(1, 3)))
        held = self._held()
        settlement = lifecycle.settle([(lease, self.rng.choice(OUTCOMES)) for lease in chosen], now=self.now)
        written = [lease for lease, _, _ in settlement.written]
        assert {lease.key for lease in written} == {lease.key for lease in chosen} & held
        assert {lease.key for lease in settlement.lost} == {lease.key for lease in chosen} - held
        for lease, outcome, _ in settlement.written:
            if isinstance(outcome, Succeeded):
                self.succeeded[lease.task_id].add(lease.attempt)

    def extend(self) -> None:
        held = self._held()
        extension = lifecycle.extend(self.leases, by=timedelta(seconds=30), now=self.now)
        assert extension.held == {id_ for id_, _ in held}
        assert {lease.key for lease in extension.lost} == {lease.key for lease in self.leases} - held

    def _held(self) -> set[tuple[UUID, int]]:
        rows = Task.objects.filter(status=Status.PROCESSING)
        return set(rows.values_list("id", "fence"))

    def reap(self) -> None:
        dead = self.rng.choice([[], ["worker-1"]])
        lifecycle.reap(now=self.now, limit=self.rng.randint(1, 3), dead_workers=dead)

    def cancel(self) -> None:
        answer = lifecycle.cancel(self.some())
        rows = self.rows()
        assert {rows[id_]["status"] for id_ in answer.cancelled} <= {Status.CANCELLED}
        assert {rows[id_]["status"] for id_ in answer.requested} <= {Status.PROCESSING}

    def retry(self) -> None:
        lifecycle.retry(self.some())

    def park_and_unpark(self) -> None:
        lifecycle.park(self.rng.choice([[HANDLER], []]))
        lifecycle.unpark([HANDLER], now=self.now)

    def expire(self) -> None:
        Task.objects.filter(pk__in=self.some(), status=Status.PENDING).update(expires_at=self.now)
        lifecycle.expire(now=self.now)

    def anything(self) -> Callable[[], None]:
        often = [self.claim, self.settle, self.time_passes]
        seldom = [
            self.extend,
            self.reap,
            self.cancel,
            self.expire,
            self.park_and_unpark,
            self.retry,
            self.retry,
        ]
        return self.rng.choice(self.rng.choice([often, often, seldom]))


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_some_things_never_do(seed: int) -> None:
    world = World(seed)
    before = world.rows()

    for _ in range(STEPS):
        happens = world.anything()
        happens()
        after, history = world.rows(), world.history()
        for id_ in world.ids:
            check_step(before[id_], after[id_], happens.__name__)
            check_row(after[id_])
            check_history(after[id_], history[id_], world.succeeded[id_])
        before = after


def check_step(before: dict[str, Any], after: dict[str, Any], what: str) -> None:
    if before["status"] in FINISHED and after != before:
        assert what == "retry"
    if before["status"] != after["status"] and what != "claim":  # which may be followed by nothing
        assert (before["status"], after["status"]) in MOVES
    assert after["fence"] - before["fence"] == (
        what == "claim" and after["status"] == Status.PROCESSING != before["status"]
    )
    assert after["attempt"] - before["attempt"] in ({0, 1} if what == "claim" else {0, -1})


def check_row(row: dict[str, Any]) -> None:
    used = row["attempt"] - row["attempts_before"]
    assert 0 <= used <= row["max_attempts"]
    assert row["status"] != Status.PENDING or used < row["max_attempts"]
    assert row["status"] != Status.PENDING or row["cancel_requested_at"] is None
    assert row["status"] != Status.PROCESSING or used > 0
    assert row["crashes"] <= 3


def check_history(row: dict[str, Any], numbers: list[int], succeeded: set[int]) -> None:
    """Each number that was used up is in the history once, but for successes and what runs."""
    running = {row["attempt"]} if row["status"] == Status.PROCESSING else set()
    assert len(numbers) == len(set(numbers))
    assert set(numbers) | succeeded | running == set(range(1, row["attempt"] + 1))
