"""Which workers live, and what they know."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models

from tasks.models import Worker
from tasks.models.task import database

SEEN_EVERY = timedelta(seconds=10)
ALIVE_FOR = 3 * SEEN_EVERY  # one that was not seen for so long counts as gone
FORGOTTEN_AFTER = timedelta(days=1)


def present(worker: Worker, *, now: datetime) -> None:
    """Write down that this worker lives; the first time, all about it."""
    workers = Worker.objects.using(database())
    if not workers.filter(pk=worker.pk).update(last_seen_at=now, busy=worker.busy):
        worker.started_at = worker.last_seen_at = now
        worker.save(using=database(), force_insert=True)
        workers.filter(last_seen_at__lt=now - FORGOTTEN_AFTER).delete()


def absent(worker_id: str) -> None:
    """This worker has stopped."""
    Worker.objects.using(database()).filter(pk=worker_id).delete()


def living(*, now: datetime) -> models.QuerySet[Worker]:
    return Worker.objects.using(database()).filter(last_seen_at__gt=now - ALIVE_FOR)


def handlers_of_the_living(*, now: datetime) -> frozenset[str]:
    """Every handler that some live worker knows."""
    return frozenset(name for known in living(now=now).values_list("handlers", flat=True) for name in known)
