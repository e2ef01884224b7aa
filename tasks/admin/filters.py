"""What the form of the list of tasks offers. Choices come from code and small tables, never from DISTINCT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from tasks import stats
from tasks.admin import words
from tasks.admin.chosen import SPANS, known_handlers
from tasks.models import Task
from tasks.states import Status

if TYPE_CHECKING:
    Tasks = QuerySet[Task]


class TaskFilter(admin.SimpleListFilter):
    """Its parameter is read in ``chosen``, together with the others: here is what can be chosen."""

    input_type = ""  # of a filter that is not a list of choices
    is_field = True  # it has a place of its own in the form

    def has_output(self) -> bool:
        return True

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def queryset(self, request: HttpRequest, queryset: Tasks) -> Tasks:
        return queryset

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
    is_field = False

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(Status.choices)

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:  # type: ignore[override]  # more keys
        chosen = self.value() or ""
        yield {
            "value": "",
            "display": "All",
            "selected": not chosen,
            "query_string": changelist.get_query_string(remove=[self.parameter_name]),
        }
        for status in Status:
            number = stats.count(status)
            yield {
                "value": status.value,
                "display": status.label,
                "count": "" if number is None else words.capped(number, stats.COUNTED),
                "selected": chosen == status,
                "query_string": changelist.get_query_string({self.parameter_name: status.value}),
            }


class QueueFilter(TaskFilter):
    title = "queue"
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in stats.queues_in_use()]


class HandlerFilter(TaskFilter):
    title = "handler"
    parameter_name = "handler"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in known_handlers()]


class CreatedFilter(TaskFilter):
    title = "created"
    parameter_name = "created"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(key, text) for key, (text, _) in SPANS.items()]


class CreatedBeforeFilter(TaskFilter):
    title = "created before"
    parameter_name = "created_before"
    input_type = "datetime-local"


class TagFilter(TaskFilter):
    title = "tag"
    parameter_name = "tag"
    is_field = False


class WorkerFilter(TaskFilter):
    title = "worker"
    parameter_name = "worker"
    is_field = False


class IdFilter(TaskFilter):
    title = "id"
    parameter_name = "id"
    is_field = False


class FailureFilter(TaskFilter):
    title = "failure"
    parameter_name = "failure"
    is_field = False


FILTERS = (
    StatusFilter,
    QueueFilter,
    HandlerFilter,
    CreatedFilter,
    CreatedBeforeFilter,
    TagFilter,
    WorkerFilter,
    IdFilter,
    FailureFilter,
)
