"""How long the service's own claim takes on the database at hand."""

from __future__ import annotations

import random
import time
from datetime import timedelta

from django.db import transaction

from tasks import clock, lifecycle
from tasks.contract import Claimant
from tasks.models.task import database

WARM_UP = 10
PAUSE_SECONDS = 0.005
HANDLERS = ("bench.noop", "bench.rare", "bench.stamp")


def durations(samples: int, limits: list[int]) -> dict[str, list[int]]:
    """Nanoseconds of each claim, by how many tasks it took.

    Without its commit, which costs the same whatever the table holds. What was claimed is released
    in a transaction of its own, and so goes to the end of the line.
    """
    claimant = _claimant()
    took: dict[str, list[int]] = {str(limit): [] for limit in limits}
    for number in range(-WARM_UP, samples):
        for limit in random.sample(limits, len(limits)):
            nanoseconds = _claim(claimant, limit)
            if number >= 0:
                took[str(limit)].append(nanoseconds)
    return took


def turns(samples: int, limit: int) -> list[int]:
    """Nanoseconds of each claim with its commit, and with the wait for others that write."""
    claimant, alias = _claimant(), database()
    took: list[int] = []
    for _ in range(WARM_UP + samples):
        began = time.perf_counter_ns()
        leases = lifecycle.claim(claimant, limit=limit, now=clock.now(alias))
        took.append(time.perf_counter_ns() - began)
        lifecycle.release(leases, now=clock.now(alias))
        time.sleep(PAUSE_SECONDS)  # so that the others have their turns
    return took[WARM_UP:]


def _claimant() -> Claimant:
    return Claimant(worker_id="bench", queues=None, handlers=HANDLERS, lease_for=timedelta(minutes=5))


def _claim(claimant: Claimant, limit: int) -> int:
    alias = database()
    now = clock.now(alias)
    with transaction.atomic(using=alias):
        began = time.perf_counter_ns()
        leases = lifecycle.claim(claimant, limit=limit, now=now)
        took = time.perf_counter_ns() - began
    if len(leases) != limit:
        raise RuntimeError(f"claimed {len(leases)} instead of {limit} tasks")
    lifecycle.release(leases, now=clock.now(alias))
    return took
