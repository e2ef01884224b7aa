"""Filters of the list of tasks. Choices come from the code and from small tables, never from DISTINCT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from tasks import registry, stats
from tasks.admin import words
from tasks.models import Task
from tasks.states import Status

if TYPE_CHECKING:
    Tasks = QuerySet[Task]

LIVE_IDS = 5_000  # up to so many pending or processing tasks, their own indexes tell which they are
CLOCK_SLACK = timedelta(hours=1)  # an id is made by a process's clock, created_at by the database's


class TaskFilter(admin.SimpleListFilter):
    """Narrows the list twice: ``queryset`` exactly, ``walk`` as far as an index can."""

    input_type = ""  # of a filter that is not a list of choices
    wanted: Sequence[str] = ()

    def has_output(self) -> bool:
        return True

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def walk(self, tasks: Tasks) -> Tasks:
        """The tasks to walk along, newest first, to find those that match. Leaves out none of these."""
        return tasks

    def options(self) -> Iterator[dict[str, Any]]:
        """The choices of a drop-down list; what came in the address stays choosable."""
        value = self.value() or ""
        yield {"value": "", "text": "any", "selected": not value}
        known = [(str(key), text) for key, text in self.lookup_choices]
        if value and value not in dict(known):
            known.append((value, value))
        for key, text in known:
            yield {"value": key, "text": text, "selected": key == value}


class StatusFilter(TaskFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(Status.choices)

    @cached_property
    def status(self) -> Status | None:
        try:
            return Status(str(self.value())) if self.value() else None
        except ValueError as error:
            raise IncorrectLookupParameters from error

    def queryset(self, request: HttpRequest, queryset: Tasks) -> Tasks:
        return queryset.filter(status=self.status) if self.status else queryset

    @cached_property
    def live_ids(self) -> list[UUID] | None:
        """All that are pending or processing, if that is asked for and they are not too many."""
        if self.status in (Status.PENDING, Status.PROCESSING):
            return stats.live_ids(self.status, limit=LIVE_IDS)
        return None

    def walk(self, tasks: Tasks) -> Tasks:
        if self.status in (Status.FAILED, Status.CANCELLED):  # they have an index of their own
            return tasks.filter(status=self.status)
        return tasks

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:  # type: ignore[override]  # more keys
        yield {
            "value": "",
            "display": "All",
            "selected": not self.status,
            "query_string": changelist.get_query_string(remove=[self.parameter_name]),
        }
        for status in Status:
            number = stats.count(status)
            yield {
                "value": status.value,
                "display": status.label,
                "count": "" if number is None else words.capped(number, stats.COUNTED),
                "selected": self.status == status,
                "query_string": changelist.get_query_string({self.parameter_name: status.value}),
            }


class QueueFilter(TaskFilter):
    title = "queue"
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in stats.queues_in_use()]

    def queryset(self, request: HttpRequest, queryset: Tasks) -> Tasks:
        return queryset.filter(queue=self.value()) if self.value() else queryset


class HandlerFilter(TaskFilter):
    title = "handler"
    parameter_name = "handler"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = {registry.find(name).handler for name in registry.known()}
        return [(name, name) for name in sorted(names)]

    def queryset(self, request: HttpRequest, queryset: Tasks) -> Tasks:
        return queryset.filter(handler=self.value()) if self.value() else queryset


class CreatedFilter(TaskFilter):
    title = "created"
    parameter_name = "created"
    SPANS = {  # noqa: RUF012 - Django's classes are full of these
        "hour": ("past hour", timedelta(hours=1)),
        "day": ("past 24 hours", timedelta(days=1)),
        "week": ("past 7 days", timedelta(days=7)),
        "month": ("past 30 days", timedelta(days=30)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(key, text) for key, (text, _) in self.SPANS.items()]

    @cached_property
    def since(self) -> datetime | None:
        key = self.value()
        if not key:
            return None
        if key not in self.SPANS:
            raise IncorrectLookupParameters
        return timezone.now() - self.SPANS[key][1]

    def queryset(self, request: HttpRequest, queryset: Tasks) -> Tasks:
        return queryset.filter(created_at__gte=self.since) if self.since else queryset

    def walk(self, tasks: Tasks) -> Tasks:
        return tasks.filter(pk__gte=_first_id(self.since - CLOCK_SLACK)) if self.since else tasks


class CreatedBeforeFilter(TaskFilter):
    title = "created before"
    parameter_name = "created_before"
    input_type = "datetime-local"

    @cached_property
    def until(self) -> datetime | None:
        if not self.value():
            return None
        try:
            moment = datetime.fromisoformat(str(self.value()))
            return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
        except (ValueError, OverflowError) as error:
            raise IncorrectLookupParameters from error

    def queryset(self, request: HttpRequest, queryset: Tasks) -> Tasks:
        return queryset.filter(created_at__lt=self.until) if self.until else queryset

    def walk(self, tasks: Tasks) -> Tasks:
        return tasks.filter(pk__lt=_first_id(self.until + CLOCK_SLACK)) if self.until else tasks


def _first_id(moment: datetime) -> UUID:
    """No id that was made at or after this moment is smaller: they begin with their milliseconds."""
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)
