"""Holding back a queue and letting it go on."""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import partial

from django.db import transaction
from django.db.models import QuerySet

from tasks import bell, clock
from tasks.lifecycle.again import again
from tasks.logs import event
from tasks.models import Queue
from tasks.models.task import database

logger = logging.getLogger(__name__)


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
        running = _names(rows.filter(name__in=names, paused_at=None))
        rows.filter(name__in=running).update(
            paused_at=clock.now(alias),
            paused_by=by[: _length_of("paused_by")],
            pause_reason=reason[: _length_of("pause_reason")],
        )
        _tell_on_commit("queue.paused", running, by)
    return len(running)


@again
def resume(queues: Collection[str], *, by: str = "") -> int:
    """Claim from these queues again. Safe to repeat. Returns how many were paused."""
    names = set(queues)
    alias = database()
    with transaction.atomic(using=alias, savepoint=False):
        rows = Queue.objects.using(alias)
        paused = _names(rows.filter(name__in=names, paused_at__isnull=False))
        rows.filter(name__in=paused).update(paused_at=None, paused_by="", pause_reason="")
        bell.ring_on_commit(alias)
        _tell_on_commit("queue.resumed", paused, by)
    return len(paused)


def _names(queues: QuerySet[Queue]) -> list[str]:
    """Locked: nobody changes them until what is told of them has happened."""
    return list(queues.select_for_update().order_by("name").values_list("name", flat=True))


def _tell_on_commit(name: str, queues: Collection[str], by: str) -> None:
    if queues:
        told = {"queues": ", ".join(queues), "moved": len(queues), "by": by or None}
        transaction.on_commit(partial(event, logger, logging.INFO, name, **told), using=database())


def _length_of(column: str) -> int | None:
    return Queue._meta.get_field(column).max_length  # type: ignore[union-attr]  # both are texts
