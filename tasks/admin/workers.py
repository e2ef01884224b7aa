"""Workers: who lives, what it knows, and what it is doing."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString

from tasks.admin import page, words
from tasks.admin.window import Window
from tasks.lifecycle.workers import ALIVE_FOR
from tasks.models import Task, Worker
from tasks.models.task import database
from tasks.states import Status

RUNNING_SHOWN = 50


@admin.register(Worker)
class WorkerAdmin(Window):
    """Rows are written by the workers themselves."""

    list_display = ("id", "state", "host", "pid", "executors", "serves", "knows", "started", "seen")
    ordering = ("-last_seen_at", "id")
    list_display_links = ("id",)

    @admin.display(description="Status")
    def state(self, worker: Worker) -> SafeString:
        alive = worker.last_seen_at > timezone.now() - ALIVE_FOR
        return words.badge("alive", "Alive") if alive else words.badge("gone", "Gone")

    @admin.display(description="Queues")
    def serves(self, worker: Worker) -> str:
        return "all" if worker.queues is None else ", ".join(worker.queues)

    @admin.display(description="Handlers")
    def knows(self, worker: Worker) -> str:
        return str(len(worker.handlers))

    @admin.display(description="Started")
    def started(self, worker: Worker) -> SafeString | str:
        return words.when(worker.started_at, timezone.now())

    @admin.display(description="Last seen")
    def seen(self, worker: Worker) -> SafeString | str:
        return words.when(worker.last_seen_at, timezone.now())

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, {"title": "Workers", **(extra_context or {})})

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return []  # the template shows the facts itself

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        worker: Worker = kwargs["obj"]
        context |= {"title": worker.pk, "subtitle": None, "badge": self.state(worker)}
        context["facts"] = self._facts(worker)
        context["running"] = _running_on(worker)
        return super().render_change_form(request, context, *args, **kwargs)

    def _facts(self, worker: Worker) -> list[page.Fact]:
        now = timezone.now()
        return [
            ("Host", worker.host),
            ("Process", str(worker.pid)),
            ("Executors", str(worker.executors)),
            ("Queues", self.serves(worker)),
            ("Handlers", ", ".join(worker.handlers)),
            ("Started", words.moment(worker.started_at, now)),
            ("Last seen", words.moment(worker.last_seen_at, now)),
        ]


def _running_on(worker: Worker) -> list[tuple[SafeString, str]]:
    """The tasks in its hands, by the index of leases; each as a link and how long it has run."""
    now = timezone.now()
    held = Task.objects.using(database()).filter(
        status=Status.PROCESSING, lease_expires_at__isnull=False, worker_id=worker.pk
    )
    rows = held.order_by("lease_expires_at").only("title", "handler", "attempted_at")[:RUNNING_SHOWN]
    return [
        (page.link(Task, str(task.pk), str(task)), words.span(now - (task.attempted_at or now)))
        for task in rows
    ]
