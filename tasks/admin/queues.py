"""Queues: which there are, what is ready in them, and the lever that holds one back."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.options import ActionLocation
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from tasks import lifecycle, stats
from tasks.admin import page, words
from tasks.admin.window import Window
from tasks.limits import QUEUE_RULE, is_queue_name
from tasks.models import Queue

UNLISTED_SHOWN = 50  # each costs a question
BOTH = [ActionLocation.CHANGE_LIST, ActionLocation.CHANGE_FORM]


class PauseForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in its stubs alone
    """The name of a queue, whether it has a row yet or not."""

    class Meta:
        model = Queue
        fields = ("name",)

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if not is_queue_name(name):
            raise forms.ValidationError(f"The name {QUEUE_RULE}.")
        return name

    def validate_unique(self) -> None:
        """One that has a row can be paused too."""


@admin.register(Queue)
class QueueAdmin(Window):
    """A queue exists by being named; a row appears when somebody pauses it."""

    list_display = ("name", "state", "ready", "since")
    actions = ("pause", "resume")
    form = PauseForm
    add_form_template = "admin/tasks/queue/add_form.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_pause_permission(request)

    def has_pause_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tasks.change_queue")

    @admin.display(description="Status")
    def state(self, queue: Queue) -> SafeString:
        return words.badge("paused", "Paused") if queue.paused_at else words.badge("open", "Open")

    @admin.display(description="Ready tasks")
    def ready(self, queue: Queue) -> SafeString:
        number = words.capped(stats.ready_in(queue.name), stats.COUNTED)
        return page.tasks_link(number, queue=queue.name, status="pending")

    @admin.display(description="Paused since")
    def since(self, queue: Queue) -> SafeString | str:
        return words.when(queue.paused_at, timezone.now())

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context: dict[str, Any] = {"title": "Queues", "may_pause": self.has_pause_permission(request)}
        listed = set(self.get_queryset(request).values_list("name", flat=True))
        unlisted = [name for name in stats.queues_in_use() if name not in listed]
        context["unlisted"] = [
            (name, words.capped(stats.ready_in(name), stats.COUNTED)) for name in unlisted[:UNLISTED_SHOWN]
        ]
        context["more_unlisted"] = len(unlisted) - len(context["unlisted"])
        return super().changelist_view(request, {**context, **(extra_context or {})})

    # -- the levers

    @admin.action(description="Pause", permissions=["pause"], location=BOTH)
    def pause(self, request: HttpRequest, chosen: QuerySet[Queue]) -> None:
        names = list(chosen.values_list("name", flat=True))
        moved = lifecycle.pause(names, by=request.user.get_username())
        self.tell(request, f"{moved} of {len(names)} paused. What runs goes on.", done=bool(moved))
        if moved:
            self.note(request, chosen.all(), "Paused by hand.")

    @admin.action(description="Resume", permissions=["pause"], location=BOTH)
    def resume(self, request: HttpRequest, chosen: QuerySet[Queue]) -> None:
        names = list(chosen.values_list("name", flat=True))
        moved = lifecycle.resume(names)
        self.tell(request, f"{moved} of {len(names)} resumed.", done=bool(moved))
        if moved:
            self.note(request, chosen.all(), "Resumed by hand.")

    # -- pausing one that has no row yet

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().add_view(request, form_url, {"title": "Pause a queue", **(extra_context or {})})

    def save_model(self, request: HttpRequest, obj: Queue, form: Any, change: bool) -> None:
        lifecycle.pause([obj.name], by=request.user.get_username())

    def response_add(
        self, request: HttpRequest, obj: Queue, post_url_continue: str | None = None
    ) -> HttpResponse:
        self.tell(request, f"Queue {obj.name} is paused. What runs goes on.", done=True)
        return HttpResponseRedirect(reverse("admin:tasks_queue_changelist"))

    # -- the page of one queue

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [] if obj else [(None, {"fields": ["name"]})]  # the template shows the facts itself

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        queue = kwargs.get("obj")
        if queue is not None:
            context |= {"title": queue.name, "subtitle": None, "badge": self.state(queue)}
            context["may_pause"] = self.has_pause_permission(request)
            context["facts"] = [
                ("Ready tasks", self.ready(queue)),
                ("Paused", words.moment(queue.paused_at, timezone.now())),
            ]
            said = (("Paused by", queue.paused_by), ("Reason", queue.pause_reason))
            context["facts"] += [(label, text) for label, text in said if text]
        return super().render_change_form(request, context, *args, **kwargs)
