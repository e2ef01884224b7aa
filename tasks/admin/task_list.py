"""The list of tasks: what it shows of each, and what it makes of the search box."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from tasks.admin import words
from tasks.admin.chosen import led_to
from tasks.admin.filters import FILTERS
from tasks.admin.listing import TaskChangeList
from tasks.admin.window import Window
from tasks.models import Task
from tasks.models.task import database
from tasks.operations import VERBS
from tasks.search import BadSearch, id_range
from tasks.states import Status

NONE = format_html('<span class="none">{}</span>', words.NOTHING)  # where there is little room, left out
VERB_OF = {"remove": "delete"}  # the others are called alike


class TaskList(Window):
    list_display = ("what", "state", "tries", "handler", "queue", "on", "made", "ran")
    list_display_links = ("what",)
    list_filter = FILTERS
    search_fields = ("pk", "title")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return TaskChangeList

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method == "GET" and self.has_view_permission(request) and (url := _better(request)):
            return HttpResponseRedirect(url)
        if _chose_nothing(request) and self.has_view_permission(request):
            self.tell(request, "No task is chosen: tick some first. Nothing was done.", done=False)
            return HttpResponseRedirect(request.get_full_path())
        has_levers = any(request.user.has_perm(verb.permission) for verb in VERBS.values())
        given = {"title": "Tasks", "has_levers": has_levers, **(extra_context or {})}
        return super().changelist_view(request, given)

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse | None:
        try:
            [UUID(given) for given in request.POST.getlist(ACTION_CHECKBOX_NAME)]
        except ValueError as error:
            raise BadRequest("not the id of a task") from error
        if request.POST.get("select_across") == "1":
            return self._upon_all(request)
        return super().response_action(request, *args, **kwargs)

    def _upon_all(self, request: HttpRequest) -> HttpResponse:
        """To where an operation upon all that match is counted first, and confirmed."""
        names, pressed = request.POST.getlist("action"), request.POST.get("index", "")
        name = names[int(pressed)] if pressed.isdecimal() and int(pressed) < len(names) else ""
        bulk = cast(TaskChangeList, self.get_changelist_instance(request)).bulk
        return HttpResponseRedirect(f"{bulk}&{urlencode({'verb': VERB_OF.get(name, name)})}")

    @admin.display(description="Task")
    def what(self, task: Task) -> SafeString:
        title = str(task)
        hidden = task.status == Status.CANCELLED or getattr(task, "hides_error", False)
        error = "" if hidden else words.error_line(task.error)
        line = format_html('<span class="error-line">{}</span>', error) if error else ""
        return format_html('<bdi class="title" title="{}">{}</bdi>{}', title, title, line)

    @admin.display(description="Status")
    def state(self, task: Task) -> SafeString:
        runs = task.status == Status.PROCESSING and not task.cancel_requested_at
        more = "" if runs else words.standing(task, timezone.now(), getattr(task, "why", None))
        note = format_html(' <span class="note">{}</span>', more) if more else ""
        return format_html("{}{}", words.status_badge(task.status), note)

    @admin.display(description="Attempts")
    def tries(self, task: Task) -> str:
        return words.attempts(task)

    @admin.display(description="Worker")
    def on(self, task: Task) -> SafeString | str:
        """Who has it or had it last: the host and the process, which say more than the rest of the id."""
        if not task.worker_id or task.status == Status.PENDING:
            return NONE
        query = urlencode({"worker": task.worker_id})
        shown = task.worker_id.rpartition(":")[0] or task.worker_id
        return format_html('<a href="?{}" title="{}">{}</a>', query, task.worker_id, shown)

    @admin.display(description="Age")
    def made(self, task: Task) -> SafeString | str:
        return words.when(task.created_at, timezone.now())

    @admin.display(description="Duration")
    def ran(self, task: Task) -> SafeString | str:
        if task.status == Status.PROCESSING and task.attempted_at:
            return f"{words.span(timezone.now() - task.attempted_at)} so far"
        length = words.took(task)
        return NONE if length is None else words.span(length)


def _chose_nothing(request: HttpRequest) -> bool:
    """A lever was pressed above the list, with no row ticked."""
    given = request.POST
    pressed = "action" in given and given.get("select_across") != "1"
    return pressed and not given.getlist(ACTION_CHECKBOX_NAME)


def _better(request: HttpRequest) -> str | None:
    """Where a search leads: to the task whose id was typed, or to the filters that it names."""
    query = request.GET.get("q", "")
    try:
        led = None if "\0" in query else led_to(request.GET)
    except BadSearch:
        return None  # the list says what is wrong
    if task := _named(query.strip()) or _named((led or request.GET).get("id", "")):
        return reverse("admin:tasks_task_change", args=(task,))
    if led is None and id_range(query) and _exists(query):
        led = request.GET.copy()
        del led["q"]
        led["id"] = query.strip().lower()
    return None if led is None else f"{request.path}?{led.urlencode()}"


def _named(text: str) -> str | None:
    """The task of this whole id."""
    first, last = id_range(text) or (None, None)
    return str(first) if first and first == last and _exists(text) else None


def _exists(text: str) -> bool:
    return Task.objects.using(database()).filter(pk__range=id_range(text)).exists()
