"""Holding back a queue and letting it go on."""

from __future__ import annotations

from collections.abc import Collection

from django.db import transaction

from tasks import bell, clock
from tasks.lifecycle.again import again
from tasks.models import Queue
from tasks.models.task import database


@again
def pause(queues: Collection[str], *, by: str = "", reason: str = "") -> int:
    """Claim nothing from these queues until they are resumed; what runs goes on. Safe to repeat.

    A queue need not exist yet. Of one that is paused already, who did it and why stays. Returns how
    many were not paused before.
    """
    names = set(queues)
    alias = database()
    with transaction.atomic(using=alias, savepoint=False):
        rows = Queue.objects.using(alias)
        rows.bulk_create([Queue(name=name) for name in sorted(names)], ignore_conflicts=True)
        running = rows.filter(name__in=names, paused_at=None)
        return running.update(
            paused_at=clock.now(alias),
            paused_by=by[: _length_of("paused_by")],
            pause_reason=reason[: _length_of("pause_reason")],
        )


@again
def resume(queues: Collection[str]) -> int:
    """Claim from these queues again. Safe to repeat. Returns how many were paused."""
    alias = database()
    with transaction.atomic(using=alias, savepoint=False):
        paused = Queue.objects.using(alias).filter(name__in=set(queues), paused_at__isnull=False)
        resumed = paused.update(paused_at=None, paused_by="", pause_reason="")
        bell.ring_on_commit(alias)
    return resumed


def _length_of(column: str) -> int | None:
    return Queue._meta.get_field(column).max_length  # type: ignore[union-attr]  # both are texts
