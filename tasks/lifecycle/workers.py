"""Which workers live, and what they know."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

from django.db import connections, models, transaction

from tasks import clock
from tasks.logs import event
from tasks.models import Worker
from tasks.models.task import database

logger = logging.getLogger(__name__)

SEEN_EVERY = timedelta(seconds=10)
ALIVE_FOR = 3 * SEEN_EVERY  # one that was not seen for so long counts as gone
FORGOTTEN_AFTER = timedelta(days=1)
BY_CHARS = 150  # of who asked for something


# One statement writes and reads: what is asked of a worker costs it no further one.
_SEEN = """
UPDATE workers SET last_seen_at = %s, busy = %s, memory_mb = %s, recycled = %s
WHERE id = %s RETURNING drain_requested_at
"""


def present(worker: Worker, *, now: datetime) -> bool:
    """Write down that this worker lives; the first time, all about it. Returns whether it is to drain."""
    alias = database()
    connection = connections[alias]
    seen = connection.ops.adapt_datetimefield_value(now)
    with connection.cursor() as cursor:
        cursor.execute(_SEEN, (seen, worker.busy, worker.memory_mb, worker.recycled, worker.pk))
        row = cursor.fetchone()
    if row is not None:
        return row[0] is not None
    worker.started_at = worker.last_seen_at = now
    worker.save(using=alias, force_insert=True)
    Worker.objects.using(alias).filter(last_seen_at__lt=now - FORGOTTEN_AFTER).delete()
    return False


def drain(worker_ids: Collection[str], *, by: str = "") -> int:
    """Ask workers to claim nothing more, and to end when what they run is done. Safe to repeat.

    They read it when they next renew their row, within ``SEEN_EVERY``. Of one that was asked before,
    who did it stays. Returns how many were not.
    """
    alias = database()
    rows = Worker.objects.using(alias)
    with transaction.atomic(using=alias, savepoint=False):
        unasked = rows.select_for_update().filter(pk__in=set(worker_ids), drain_requested_at=None)
        asked = list(unasked.order_by("pk").values_list("pk", flat=True))
        rows.filter(pk__in=asked).update(
            drain_requested_at=clock.now(alias), drain_requested_by=by[:BY_CHARS]
        )
        if asked:
            told = {"workers": ", ".join(asked), "moved": len(asked), "by": by or None}
            tell = partial(event, logger, logging.INFO, "worker.drained", **told)
            transaction.on_commit(tell, using=alias)
    return len(asked)


class WorkerState(StrEnum):
    ALIVE = "alive"
    DRAINING = "draining"  # it claims nothing more
    GONE = "gone"  # it was not seen for ``ALIVE_FOR``


def state_of(worker: Worker, *, now: datetime) -> WorkerState:
    if worker.last_seen_at <= now - ALIVE_FOR:
        return WorkerState.GONE
    return WorkerState.ALIVE if worker.drain_requested_at is None else WorkerState.DRAINING


def absent(worker_id: str) -> None:
    """This worker has stopped."""
    Worker.objects.using(database()).filter(pk=worker_id).delete()


def living(*, now: datetime) -> models.QuerySet[Worker]:
    return Worker.objects.using(database()).filter(last_seen_at__gt=now - ALIVE_FOR)


def handlers_of_the_living(*, now: datetime) -> frozenset[str]:
    """Every handler that some live worker knows."""
    return frozenset(name for known in living(now=now).values_list("handlers", flat=True) for name in known)
