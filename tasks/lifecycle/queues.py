"""Holding back a queue and letting it go on."""

from __future__ import annotations

from collections.abc import Collection

from django.db import transaction

from tasks import bell, clock
from tasks.lifecycle.again import again
from tasks.models import Queue
from tasks.models.task import database


@again
def pause(queues: Collection[str]) -> int:
    """Claim nothing from these queues until they are resumed; what runs goes on. Safe to repeat.

    A queue need not exist yet. Returns how many were not paused before.
    """
    names = set(queues)
    alias = database()
    with transaction.atomic(using=alias, savepoint=False):
        rows = Queue.objects.using(alias)
        rows.bulk_create([Queue(name=name) for name in sorted(names)], ignore_conflicts=True)
        return rows.filter(name__in=names, paused_at=None).update(paused_at=clock.now(alias))


@again
def resume(queues: Collection[str]) -> int:
    """Claim from these queues again. Safe to repeat. Returns how many were paused."""
    alias = database()
    with transaction.atomic(using=alias, savepoint=False):
        paused = Queue.objects.using(alias).filter(name__in=set(queues), paused_at__isnull=False)
        resumed = paused.update(paused_at=None)
        bell.ring_on_commit(alias)
    return resumed
