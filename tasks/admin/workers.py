"""Workers: who lives, what it is doing and for how long, what code it runs, and the lever that ends one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from tasks import lifecycle, stats
from tasks.admin import notices, page, words
from tasks.admin.window import Window
from tasks.lifecycle.workers import SEEN_EVERY, WorkerState, state_of
from tasks.models import Task, Worker
from tasks.models.task import database
from tasks.pending import Situation

RUNNING_SHOWN = 50  # of one worker
BADGES = {
    WorkerState.ALIVE: ("alive", "Alive"),
    WorkerState.DRAINING: ("paused", "Draining"),
    WorkerState.GONE: ("gone", "Gone"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A task in the hands of a worker."""

    task: SafeString
    elapsed: str
    limit: str  # empty: none
    seconds: int  # elapsed, and below the limit, for a bar
    limit_seconds: int
    late: bool  # less than a fifth of its time is left
    asked_to_stop: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    worker: Worker
    alive: bool
    badge: SafeString
    queues: str
    memory: str
    version: str
    differs: bool  # from the code that most of the others run
    started: SafeString | str
    seen: SafeString | str
    running: Sequence[Running]
    more: int  # further ones, that wait behind these


@admin.register(Worker)
class WorkerAdmin(Window):
    """Rows are written by the workers themselves; one column asks them for something."""

    list_display = ("id",)
    ordering = ("-last_seen_at", "id")

    def get_urls(self) -> list[URLPattern]:
        drain = self.admin_site.admin_view(self.drain_view)
        return [path("<path:object_id>/drain/", drain, name="tasks_worker_drain"), *super().get_urls()]

    def has_drain_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tasks.drain_worker")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"title": "Workers", "may_drain": self.has_drain_permission(request)}
        answer = super().changelist_view(request, {**context, **(extra_context or {})})
        if isinstance(answer, TemplateResponse) and answer.context_data is not None:
            workers = answer.context_data["cl"].result_list
            answer.context_data["cards"] = list(cards(workers))
            answer.context_data["notices"] = list(notices.of_workers(Situation()))
        return answer

    # -- drain

    def drain_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.has_drain_permission(request):
            raise PermissionDenied
        worker = self.get_object(request, unquote(object_id))
        if worker is None or request.method == "POST":
            self._drain(request, worker)
            return HttpResponseRedirect(reverse("admin:tasks_worker_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "title": f"Drain worker {worker.pk}",
            "opts": self.opts,
            "list_url": self.list_url(),
            "worker": worker,
            "within": words.span(SEEN_EVERY),
        }
        return TemplateResponse(request, "admin/tasks/worker/drain.html", context)

    def _drain(self, request: HttpRequest, worker: Worker | None) -> None:
        if worker is None:
            self.tell(request, "This worker is no longer there.", done=False)
        elif lifecycle.drain([worker.pk], by=request.user.get_username()):
            within = words.span(SEEN_EVERY)
            told = (
                f"Worker {worker.pk} claims nothing more within {within}, and ends when what it runs is done."
            )
            self.tell(request, told, done=True)
            self.note(request, [worker], "Drained by hand.")
        else:
            self.tell(request, f"Worker {worker.pk} had been asked before.", done=False)

    # -- the page of one worker

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return []  # the template shows the facts itself

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        worker: Worker = kwargs["obj"]
        [card] = cards([worker], shown=RUNNING_SHOWN)
        context |= {"title": worker.pk, "subtitle": None, "badge": card.badge, "card": card}
        context |= {"may_drain": self.has_drain_permission(request), "facts": _facts(card)}
        return super().render_change_form(request, context, *args, **kwargs)


def _facts(card: Card) -> list[page.Fact]:
    worker, now = card.worker, timezone.now()
    facts: list[page.Fact] = [
        ("Host", worker.host),
        ("Process", str(worker.pid)),
        ("Executors", f"{worker.busy or 0} of {worker.executors} busy"),
        ("Recycled", f"{worker.recycled:,} of them since its start"),
        ("Memory", card.memory or words.NOTHING),
        ("Code", card.version),
        ("Queues", card.queues),
        ("Handlers", ", ".join(worker.handlers)),
        ("Started", words.moment(worker.started_at, now)),
        ("Last seen", words.moment(worker.last_seen_at, now)),
    ]
    if worker.drain_requested_at:
        facts.append(("Drained", words.moment(worker.drain_requested_at, now)))
        facts.append(("Drained by", worker.drain_requested_by or words.NOTHING))
    return facts


def cards(workers: Iterable[Worker], *, shown: int | None = None) -> Iterator[Card]:
    """``shown``: of the tasks in its hands; None: as many as run at once."""
    now, listed = timezone.now(), list(workers)
    states = {worker.pk: state_of(worker, now=now) for worker in listed}
    alive_ones = [worker for worker in listed if states[worker.pk] != WorkerState.GONE]
    usual = Counter(worker.version for worker in alive_ones).most_common(1)
    held = stats.in_hands(Task.objects.using(database()).filter(worker_id__in=list(states)))
    for worker in listed:
        alive, tasks = states[worker.pk] != WorkerState.GONE, held.get(worker.pk, [])
        first = tasks[: worker.executors if shown is None else shown]
        yield Card(
            worker=worker,
            alive=alive,
            badge=words.badge(*BADGES[states[worker.pk]]),
            queues="all" if worker.queues is None else ", ".join(worker.queues),
            memory=f"{worker.memory_mb:,} MB" if worker.memory_mb is not None else "",
            version=worker.version or "unknown",
            differs=alive and bool(usual) and worker.version != usual[0][0],
            started=words.when(worker.started_at, now),
            seen=words.when(worker.last_seen_at, now),
            running=[_running(task, now) for task in first],
            more=len(tasks) - len(first),
        )


def _running(task: Task, now: datetime) -> Running:
    elapsed = max(timedelta(0), now - (task.attempted_at or now))
    limit = timedelta(seconds=task.timeout_seconds) if task.timeout_seconds is not None else None
    return Running(
        task=page.link(Task, str(task.pk), str(task)),
        elapsed=words.span(elapsed),
        limit=words.span(limit) if limit else "",
        seconds=round(min(elapsed, limit or elapsed).total_seconds()),
        limit_seconds=max(1, round((limit or elapsed).total_seconds())),
        late=limit is not None and elapsed > 0.8 * limit,
        asked_to_stop=task.cancel_requested_at is not None,
    )
