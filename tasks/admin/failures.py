"""Failures: what keeps going wrong, in groups, and a lever that runs the tasks of one again."""

from __future__ import annotations

from itertools import batched
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import ActionLocation
from django.core.exceptions import BadRequest
from django.db.models import QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from tasks import failures, lifecycle, stats
from tasks.admin import page, tracebacks, words
from tasks.admin.chosen import EVER
from tasks.admin.rights import RETRY, rights_of
from tasks.admin.window import Window
from tasks.limits import ROWS_AT_ONCE
from tasks.masking import masked_text
from tasks.models import Failure, Task
from tasks.models.task import database

RETRIED_AT_ONCE = 1_000  # in a request
TASKS_SHOWN = 25
NAMED_IN_LIST = 100  # failed tasks of a group are counted so far


@admin.register(Failure)
class FailureAdmin(Window):
    """Written by the workers. Whoever may see tasks may see what fails."""

    list_display = ("what", "handler", "count_", "failed_now", "first", "last")
    list_display_links = ("what",)
    search_fields = ("handler", "error_type", "frame")
    actions = ("retry_group",)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("tasks.view_task") or request.user.has_perm("tasks.change_task")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(RETRY)

    # -- the list

    def get_queryset(self, request: HttpRequest) -> QuerySet[Failure]:
        light = super().get_queryset(request).defer("message", "traceback")  # the page of one asks for them
        if rights_of(request).look_inside:  # else no message is read at all
            light = light.annotate(said=Left("message", words.MASKED_CHARS))
        return failures.with_failed(light, most=NAMED_IN_LIST)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, {"title": "Failures", **(extra_context or {})})

    @admin.display(description="Error")
    def what(self, failure: Failure) -> SafeString:
        said = words.message_line(getattr(failure, "said", ""))
        return format_html(
            '<bdi class="title">{}</bdi>{}<span class="place">{}</span>',
            words.error_type(failure.error_type),
            format_html('<bdi class="error-line">{}</bdi>', said) if said else "",
            _place(failure),
        )

    @admin.display(description="Attempts")
    def count_(self, failure: Failure) -> str:
        return f"{failure.count:,}"

    @admin.display(description="Failed now")
    def failed_now(self, failure: Failure) -> str:
        return words.capped(failure.failed, NAMED_IN_LIST)  # type: ignore[attr-defined]  # annotated

    @admin.display(description="First seen")
    def first(self, failure: Failure) -> SafeString | str:
        return words.when(failure.first_seen_at, timezone.now())

    @admin.display(description="Last seen")
    def last(self, failure: Failure) -> SafeString | str:
        return words.when(failure.last_seen_at, timezone.now())

    # -- the page of one

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return []  # the template shows the facts itself

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        failure: Failure = kwargs["obj"]
        inside = rights_of(request).look_inside
        number = failures.still_failed(failure.pk, most=stats.COUNTED)
        context |= {
            "title": words.error_type(failure.error_type),
            "subtitle": None,
            "standing": _place(failure),
            "facts": _facts(failure, number),
            "look_inside": inside,
            "message": masked_text(failure.message) if inside else "",
            "trace": tracebacks.folded(failure.traceback, failure.handler)
            if inside and failure.traceback
            else "",
            "sample": page.link(Task, str(failure.task_id), str(failure.task_id)),
            "may_retry": bool(number) and self.has_retry_permission(request),
            "is_asked_first": number > RETRIED_AT_ONCE,
            "number": words.capped(number, stats.COUNTED),
            **_tasks_of(failure, request),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    # -- the lever

    @admin.action(description="Run these again", permissions=["retry"], location=[ActionLocation.CHANGE_FORM])
    def retry_group(self, request: HttpRequest, chosen: QuerySet[Failure]) -> HttpResponse | None:
        """At once where they are few; what takes longer than a request may is an operation."""
        failure = chosen.first()
        if failure is None:  # it was forgotten meanwhile
            return None
        oldest = failures.failed_by(failure.pk).order_by("pk").values_list("pk", flat=True)
        ids = list(oldest[: RETRIED_AT_ONCE + 1])
        if len(ids) > RETRIED_AT_ONCE:
            return HttpResponseRedirect(_asked_first(failure))
        moved = lifecycle.retry(ids)
        left = words.capped(failures.still_failed(failure.pk, most=stats.COUNTED), stats.COUNTED)
        sentence = f"{moved:,} of {len(ids):,} queued again; {left} still failed."
        if moved < len(ids):
            sentence += (
                " Those that were retried meanwhile stay as they are, and those whose unique key another has."
            )
        self.tell(request, sentence, done=bool(moved))
        if moved:
            told = f"Run again by hand with its group: {moved:,} of {len(ids):,} queued again."
            self.note(request, [failure], told)
            for some in batched(ids, ROWS_AT_ONCE):
                rows = Task.objects.using(database()).filter(pk__in=some).only("title", "handler")
                self.note(request, rows, told)
        return None


def _asked_first(failure: Failure) -> str:
    """Where an operation upon all of its failed tasks is counted and confirmed."""
    query = {"verb": "retry", "status": "failed", "failure": failure.pk, "created": EVER}
    return f"{reverse('admin:tasks_operation_add')}?{urlencode(query)}"


def _place(failure: Failure) -> str:
    """Empty for a crash, and for what never came to code of its own."""
    return f"in {failure.frame}" if failure.frame else ""


def _facts(failure: Failure, number: int) -> list[page.Fact]:
    now = timezone.now()
    return [
        ("Handler", page.tasks_link(failure.handler, handler=failure.handler, status="failed")),
        ("Attempts that failed so", f"{failure.count:,}"),
        ("Tasks still failed", words.capped(number, stats.COUNTED)),
        ("First seen", words.moment(failure.first_seen_at, now)),
        ("Last seen", words.moment(failure.last_seen_at, now)),
    ]


def _tasks_of(failure: Failure, request: HttpRequest) -> dict[str, Any]:
    """A page of its failed tasks, newest first, and where the next one begins."""
    now, tasks = timezone.now(), failures.failed_by(failure.pk)
    if before := request.GET.get("older_than"):
        try:
            tasks = tasks.filter(pk__lt=UUID(before))
        except ValueError as error:
            raise BadRequest("not the id of a task") from error
    light = tasks.only(
        "title", "handler", "queue", "finished_at", "attempt", "attempts_before", "max_attempts"
    )
    rows = list(light[: TASKS_SHOWN + 1])
    return {
        "rows": [
            (
                page.link(Task, str(task.pk), str(task)),
                task.queue,
                words.attempts(task),
                words.when(task.finished_at, now),
            )
            for task in rows[:TASKS_SHOWN]
        ],
        "older": rows[TASKS_SHOWN - 1].pk if len(rows) > TASKS_SHOWN else None,
        "is_first": not before,
    }
