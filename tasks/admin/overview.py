"""The front page: how many tasks are where, which queues are held back, who is there to work."""

from __future__ import annotations

from typing import Any

from django.db.models import Sum
from django.utils import timezone

from tasks import stats
from tasks.admin import words
from tasks.conf import config
from tasks.lifecycle.workers import ALIVE_FOR
from tasks.models import Queue, Worker
from tasks.models.task import database
from tasks.states import FINISHED, Status


def overview() -> dict[str, Any]:
    return {"counts": _counts(), "paused": _paused(), "workers": _workers(), "kept": _kept()}


def _counts() -> list[dict[str, Any]]:
    numbers = {status: stats.count(status) for status in Status}
    return [
        {"status": status.value, "label": status.label, "number": words.capped(number, stats.COUNTED)}
        for status, number in numbers.items()
        if number is not None
    ]


def _kept() -> str:
    """How long finished tasks stay; by this process's settings, the workers prune by theirs."""
    kept = config().kept_for
    ages = {status: words.span(kept[status]) if status in kept else "for ever" for status in sorted(FINISHED)}
    return ", ".join(f"{status} {age}" for status, age in ages.items())


def _paused() -> list[str]:
    paused = Queue.objects.using(database()).filter(paused_at__isnull=False)
    return list(paused.values_list("name", flat=True))


def _workers() -> dict[str, int]:
    alive = Worker.objects.using(database()).filter(last_seen_at__gt=timezone.now() - ALIVE_FOR)
    executors = alive.aggregate(all=Sum("executors"))["all"] or 0
    return {"alive": alive.count(), "executors": executors}
