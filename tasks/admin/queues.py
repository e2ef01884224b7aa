"""Queues: how each stands, and the levers that hold one back, let it go on, or empty it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.options import ActionLocation
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from tasks import depths, lifecycle, queues, stats
from tasks.admin import page, words
from tasks.admin.queue_rows import Queues
from tasks.admin.window import Window
from tasks.limits import QUEUE_RULE, is_queue_name
from tasks.models import Queue
from tasks.pending import Situation

BOTH = [ActionLocation.CHANGE_LIST, ActionLocation.CHANGE_FORM]


class PauseForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in its stubs alone
    """The name of a queue, whether it has a row yet or not, and why it is paused."""

    class Meta:
        model = Queue
        fields = ("name", "pause_reason")
        labels = {"pause_reason": "Reason"}  # noqa: RUF012 - as Django wants it
        help_texts = {"pause_reason": "Whoever asks why a task waits is told."}  # noqa: RUF012

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

    list_display = ("name",)
    actions = ("pause", "resume")
    form = PauseForm
    add_form_template = "admin/tasks/queue/add_form.html"

    def get_urls(self) -> list[URLPattern]:
        purge = self.admin_site.admin_view(self.purge_view)
        return [path("<path:object_id>/purge/", purge, name="tasks_queue_purge"), *super().get_urls()]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_pause_permission(request)

    def has_pause_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tasks.pause_queue")

    def has_purge_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tasks.purge_queue")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        levers = {
            "may_pause": self.has_pause_permission(request),
            "may_purge": self.has_purge_permission(request),
        }
        context = {"title": "Queues", "queues": Queues(Situation()), **levers}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    # -- pause and resume

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
        moved = lifecycle.resume(names, by=request.user.get_username())
        self.tell(request, f"{moved} of {len(names)} resumed.", done=bool(moved))
        if moved:
            self.note(request, chosen.all(), "Resumed by hand.")

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """To pause one, whether it has a row yet or not."""
        return super().add_view(request, form_url, {"title": "Pause a queue", **(extra_context or {})})

    def save_model(self, request: HttpRequest, obj: Queue, form: Any, change: bool) -> None:
        moved = lifecycle.pause([obj.name], by=request.user.get_username(), reason=obj.pause_reason)
        if moved:
            reason = f" Reason: {obj.pause_reason}" if obj.pause_reason else ""
            self.note(request, [obj], f"Paused by hand.{reason}")

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Nothing was added: ``save_model`` has noted what was done."""

    def response_add(
        self, request: HttpRequest, obj: Queue, post_url_continue: str | None = None
    ) -> HttpResponse:
        self.tell(request, f"Queue {obj.name} is paused. What runs goes on.", done=True)
        return HttpResponseRedirect(reverse("admin:tasks_queue_changelist"))

    # -- purge

    def purge_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks for the queue's name, and shows first how many tasks are meant."""
        if not self.has_purge_permission(request):
            raise PermissionDenied
        name = unquote(object_id)
        typed = request.POST.get("typed", "")
        if request.method == "POST" and typed == name:
            self._purge(request, name)
            return HttpResponseRedirect(reverse("admin:tasks_queue_changelist"))
        depth, limit = depths.depths([name])[name], depths.COUNTED
        context = {
            **self.admin_site.each_context(request),
            "title": f"Purge queue {name}",
            "opts": self.opts,
            "list_url": self.list_url(),
            "name": name,
            "ready": words.capped(depth.ready, limit),
            "waiting": words.capped(depth.waiting, limit),
            "nothing": not (depth.ready or depth.waiting),
            "processing": depth.processing,
            "wrong": request.method == "POST",
            "typed": typed,
        }
        return TemplateResponse(request, "admin/tasks/queue/purge.html", context)

    def _purge(self, request: HttpRequest, name: str) -> None:
        purged = queues.purge(name, by=request.user.get_username())
        total = purged.cancelled
        more = " More are left: purge it again to go on." if purged.more else ""
        self.tell(request, f"{total:,} pending tasks of queue {name} cancelled.{more}", done=bool(total))
        if total:
            self.note(request, [Queue(name=name)], f"Purged by hand: {total:,} pending tasks cancelled.")

    # -- the page of one queue

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return (
            [] if obj else [(None, {"fields": self.form.Meta.fields})]
        )  # the template shows the facts itself

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        queue = kwargs.get("obj")
        if queue is not None:
            context |= {"title": queue.name, "subtitle": None, "badge": _state(queue)}
            context["may_pause"] = self.has_pause_permission(request)
            context["may_purge"] = self.has_purge_permission(request)
            ready = words.capped(stats.ready_in(queue.name), stats.COUNTED)
            context["facts"] = [
                ("Ready tasks", page.tasks_link(ready, queue=queue.name, status="pending")),
                ("Paused", words.moment(queue.paused_at, timezone.now())),
            ]
            said = (("Paused by", queue.paused_by), ("Reason", queue.pause_reason))
            context["facts"] += [(label, text) for label, text in said if text]
        return super().render_change_form(request, context, *args, **kwargs)


def _state(queue: Queue) -> SafeString:
    return words.badge("paused", "Paused") if queue.paused_at else words.badge("open", "Open")
