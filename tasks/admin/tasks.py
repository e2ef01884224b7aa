"""Tasks: a list to find them, a page for each, and two levers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import ActionLocation
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tasks import lifecycle
from tasks.admin import page, words
from tasks.admin.filters import (
    CreatedBeforeFilter,
    CreatedFilter,
    HandlerFilter,
    QueueFilter,
    StatusFilter,
)
from tasks.admin.listing import TaskChangeList, id_range, search
from tasks.admin.window import Window
from tasks.lifecycle import Cancellation
from tasks.models import Task
from tasks.models.task import database
from tasks.pending import Situation
from tasks.states import Status

if TYPE_CHECKING:
    Tasks = QuerySet[Task]

BOTH = [ActionLocation.CHANGE_LIST, ActionLocation.CHANGE_FORM]


@admin.register(Task)
class TaskAdmin(Window):
    """Fields cannot be edited here: status has rules, see ``states``."""

    list_display = ("what", "state", "handler", "queue", "tries", "made", "ran")
    list_display_links = ("what",)
    list_filter = (StatusFilter, QueueFilter, HandlerFilter, CreatedFilter, CreatedBeforeFilter)
    search_fields = ("pk", "title")
    actions = ("retry", "cancel")

    # -- the list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return TaskChangeList

    def get_search_results(self, request: HttpRequest, queryset: Tasks, term: str) -> tuple[Tasks, bool]:
        return search(queryset, term), False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method == "GET" and self.has_view_permission(request):
            found = _named_by_id(request.GET.get("q", ""))
            if found:
                return HttpResponseRedirect(reverse("admin:tasks_task_change", args=(found,)))
        return super().changelist_view(request, {"title": "Tasks", **(extra_context or {})})

    @admin.display(description="Task")
    def what(self, task: Task) -> SafeString:
        title = str(task)
        error = "" if task.status == Status.CANCELLED else words.error_line(task.error)
        line = format_html('<span class="error-line">{}</span>', error) if error else ""
        return format_html('<bdi class="title" title="{}">{}</bdi>{}', title, title, line)

    @admin.display(description="Status")
    def state(self, task: Task) -> SafeString:
        more = words.standing(task, timezone.now(), getattr(task, "why", None))
        note = format_html(' <span class="note">{}</span>', more) if more else ""
        return format_html("{}{}", words.status_badge(task.status), note)

    @admin.display(description="Attempts")
    def tries(self, task: Task) -> str:
        return words.attempts(task)

    @admin.display(description="Created")
    def made(self, task: Task) -> SafeString | str:
        return words.when(task.created_at, timezone.now())

    @admin.display(description="Took")
    def ran(self, task: Task) -> str:
        length = words.took(task)
        return words.NOTHING if length is None else words.span(length)

    # -- the page of one task

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return []  # the template shows the facts itself

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context.update(page.of(kwargs["obj"], Situation()))
        context["title"], context["subtitle"] = str(kwargs["obj"]), None
        context["levers"] = {
            "retry": self.has_retry_permission(request) and page.may_retry(kwargs["obj"]),
            "cancel": self.has_cancel_permission(request) and page.may_cancel(kwargs["obj"]),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    # -- the levers

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tasks.retry_task")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tasks.cancel_task")

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse | None:
        try:
            [UUID(given) for given in request.POST.getlist(ACTION_CHECKBOX_NAME)]
        except ValueError as error:
            raise BadRequest("not the id of a task") from error
        return super().response_action(request, *args, **kwargs)

    @admin.action(description="Run again", permissions=["retry"], location=BOTH)
    def retry(self, request: HttpRequest, chosen: Tasks) -> None:
        ids = _ids_of(request, chosen)
        moved = lifecycle.retry(ids)
        sentence = f"{moved:,} of {len(ids):,} queued again."
        if moved < len(ids):
            sentence += " Only finished tasks can run again, and not while another has their unique key."
        self.tell(request, sentence, done=bool(moved))
        if moved:
            self.note(request, _rows(ids), f"Run again by hand: {moved:,} of {len(ids):,} queued again.")

    @admin.action(description="Cancel", permissions=["cancel"], location=BOTH)
    def cancel(self, request: HttpRequest, chosen: Tasks) -> None:
        ids = _ids_of(request, chosen)
        answer = lifecycle.cancel(ids)
        sentence = _cancelled(answer, asked=len(ids))
        self.tell(request, sentence, done=bool(answer.cancelled or answer.requested))
        self.note(request, _rows(answer.cancelled), "Cancelled by hand.")
        self.note(request, _rows(answer.requested), "Asked to stop by hand.")


def _named_by_id(term: str) -> UUID | None:
    """The task whose whole id was typed."""
    first, last = id_range(term) or (None, None)
    if first is None or first != last:
        return None
    return first if Task.objects.using(database()).filter(pk=first).exists() else None


def _ids_of(request: HttpRequest, chosen: Tasks) -> list[UUID]:
    """The ids before anything moves: the list may be filtered by status.

    Those that were ticked, even if they no longer match the filter: the answer is about them.
    """
    if request.POST.get("select_across") == "1":
        return list(chosen.values_list("pk", flat=True)[: TaskChangeList.across])
    return [UUID(given) for given in request.POST.getlist(ACTION_CHECKBOX_NAME)]


def _rows(ids: Sequence[UUID]) -> Tasks:
    return Task.objects.using(database()).filter(pk__in=ids).only("title", "handler")


def _cancelled(answer: Cancellation, *, asked: int) -> str:
    """What a wish to cancel came to, for each of those asked: nothing is left out."""
    gone = asked - len(answer.cancelled) - len(answer.requested) - len(answer.finished)
    parts = [f"{len(answer.cancelled):,} of {asked:,} cancelled"]
    for number, what in (
        (len(answer.requested), "asked to stop, they are running"),
        (len(answer.finished), "had already finished"),
        (gone, "no longer there"),
    ):
        if number:
            parts.append(f"{number:,} {what}")
    return "; ".join(parts) + "."
