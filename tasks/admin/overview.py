"""The front page: how many tasks are where, what happened lately, who is there to work, what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode

from tasks import lifecycle, rollups
from tasks.admin import charts, notices, words
from tasks.admin.charts import Chart
from tasks.admin.notices import Notice
from tasks.admin.queue_rows import Queues
from tasks.conf import config
from tasks.models import Task
from tasks.models.task import database
from tasks.pending import Situation
from tasks.states import FINISHED, Status


@dataclass(frozen=True, slots=True)
class Tile:
    label: str
    number: str
    state: str  # decides the colour
    any: bool
    url: str = ""
    note: str = ""


class Overview:
    """Each part is read when the template asks for it, which it does for those who may see it."""

    def __init__(self, request: HttpRequest) -> None:
        self._user = request.user
        self._situation = Situation()
        self.queues = Queues(self._situation)

    def _sees(self, what: str) -> bool:
        return any(self._user.has_perm(f"tasks.{verb}_{what}") for verb in ("view", "change"))

    @cached_property
    def sees_tasks(self) -> bool:
        return self._sees("task")

    @cached_property
    def sees_queues(self) -> bool:
        return self._sees("queue")

    @cached_property
    def sees_workers(self) -> bool:
        return self._sees("worker")

    @property
    def is_new(self) -> bool:
        """Nobody has made a task yet."""
        return not Task.objects.using(database()).exists() and not any(self.queues.minutes.values())

    @property
    def notices(self) -> list[Notice]:
        """What is broken comes before what is only odd."""
        found: list[Notice] = []
        if self.sees_workers:
            found += notices.of_workers(self._situation)
        if self.sees_queues:
            found += notices.of_queues(self._situation, self.queues.rows)
        return sorted(found, key=lambda notice: notice.level != notices.ERROR)

    @property
    def tiles(self) -> Iterator[Tile]:
        if self.sees_tasks:
            yield self._tile("Ready", "ready", "pending", Status.PENDING)
            yield self._tile("Processing", "processing", "processing", Status.PROCESSING)
            yield self._tile("Waiting", "waiting", "waiting", Status.PENDING, "for a time or a handler")
            yield self._tile("Failed", "failed", "failed", Status.FAILED)
        if self.sees_workers:
            yield self._workers()

    def _tile(self, label: str, what: str, state: str, status: Status, note: str = "") -> Tile:
        number = self.queues.all(what)
        url = f"{reverse('admin:tasks_task_changelist')}?{urlencode({'status': status.value})}"
        return Tile(label, number.text, state, number.any, url, note)

    def _workers(self) -> Tile:
        living = lifecycle.living(now=self._situation.now).values_list("executors", "busy")
        executors = sum(all_ for all_, _ in living)
        busy = sum(busy or 0 for _, busy in living)
        note = f"{busy} of {executors} executor{'' if executors == 1 else 's'} busy"
        return Tile(
            "Worker" if len(living) == 1 else "Workers",
            f"{len(living):,}",
            "alive" if living else "failed",
            True,
            reverse("admin:tasks_worker_changelist"),
            note,
        )

    @property
    def charts(self) -> Iterator[Chart]:
        now = self._situation.now
        yield charts.chart(
            "hour",
            "Last hour",
            "tasks a minute",
            period=rollups.HOUR,
            counts=rollups.together(self.queues.minutes),
            now=now,
            rows_of=timedelta(minutes=5),
        )
        yield charts.chart(
            "day",
            "Last day",
            "tasks in ten minutes",
            period=rollups.DAY,
            counts=rollups.last_day(now),
            now=now,
            rows_of=timedelta(hours=1),
        )


def kept() -> dict[str, str]:
    """How long finished tasks stay, by status; by this process's settings, the workers prune by theirs."""
    ages = config().kept_for
    return {
        status.value: words.span(ages[status]) if status in ages else "for ever"
        for status in sorted(FINISHED)
    }
