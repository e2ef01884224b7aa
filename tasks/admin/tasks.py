"""Tasks: a list to find them, a page for each, and levers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.admin.options import ActionLocation
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from tasks import lifecycle
from tasks.admin import page
from tasks.admin.cloning import Clonable
from tasks.admin.rights import rights_of
from tasks.admin.task_list import TaskList
from tasks.errors import InvalidFields
from tasks.lifecycle import Cancellation
from tasks.models import Task
from tasks.models.task import database
from tasks.specs import reason_from_json
from tasks.states import FINISHED, Status
from tasks.storable import storable_text

if TYPE_CHECKING:
    Tasks = QuerySet[Task]

BOTH = [ActionLocation.CHANGE_LIST, ActionLocation.CHANGE_FORM]


@admin.register(Task)
class TaskAdmin(Clonable, TaskList):
    """Fields cannot be edited here: status has rules, see ``states``."""

    actions = ("retry", "cancel", "remove", "run_now")

    # -- the page of one task

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return []  # the template shows the facts itself

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context.update(page.of(kwargs["obj"], request, rights_of(request)))
        context["title"], context["subtitle"] = str(kwargs["obj"]), None
        return super().render_change_form(request, context, *args, **kwargs)

    # -- the levers

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return rights_of(request).retry

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return rights_of(request).cancel

    def has_run_now_permission(self, request: HttpRequest) -> bool:
        return rights_of(request).run_now

    def has_remove_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tasks.delete_task")

    @admin.action(description="Run again", permissions=["retry"], location=BOTH)
    def retry(self, request: HttpRequest, chosen: Tasks) -> None:
        ids = _ids_of(request)
        moved = lifecycle.retry(ids)
        sentence = f"{moved:,} of {len(ids):,} queued again."
        if moved < len(ids):
            sentence += " Only finished tasks can run again, and not while another has their unique key."
        self.tell(request, sentence, done=bool(moved))
        if moved:
            self.note(request, _rows(ids), f"Run again by hand: {moved:,} of {len(ids):,} queued again.")

    @admin.action(description="Cancel", permissions=["cancel"], location=BOTH)
    def cancel(self, request: HttpRequest, chosen: Tasks) -> None:
        try:
            reason = _reason_in(request)
        except InvalidFields as error:
            self.tell(request, f"Nothing was cancelled: {error}.", done=False)
            return
        ids = _ids_of(request)
        answer = lifecycle.cancel(ids, reason=reason)
        sentence = _cancelled(answer, asked=len(ids))
        self.tell(request, sentence, done=bool(answer.cancelled or answer.requested))
        why = f": {reason}" if reason else "."
        self.note(request, _rows(answer.cancelled), f"Cancelled by hand{why}")
        self.note(request, _rows(answer.requested), f"Asked to stop by hand{why}")

    @admin.action(description="Run now", permissions=["run_now"], location=[ActionLocation.CHANGE_FORM])
    def run_now(self, request: HttpRequest, chosen: Tasks) -> None:
        for task_id in _ids_of(request)[:1]:
            if lifecycle.run_now(task_id) == Status.PENDING:
                self.tell(request, "It need not wait for its time any more.", done=True)
                self.note(request, _rows([task_id]), "Made to run now by hand.")
            else:
                self.tell(request, "It is not pending any more.", done=False)

    @admin.action(description="Delete…", permissions=["remove"])
    def remove(self, request: HttpRequest, chosen: Tasks) -> HttpResponse | None:
        ids = _ids_of(request)
        if "sure" not in request.POST:
            context = {
                **self.admin_site.each_context(request),
                "title": "Delete tasks",
                "opts": self.opts,
                "list_url": request.get_full_path(),
                "ids": ids,
                "finished": _rows(ids).filter(status__in=FINISHED).count(),
            }
            return render(request, "admin/tasks/task/remove.html", context)
        rows = list(_rows(ids))
        stay = lifecycle.delete(ids, statuses=FINISHED)
        gone = [row for row in rows if row.pk not in stay]
        sentence = f"{len(gone):,} of {len(ids):,} deleted."
        if stay:
            sentence += " Only finished tasks are deleted."
        self.tell(request, sentence, done=bool(gone))
        LogEntry.objects.log_actions(request.user.pk, gone, DELETION, "Deleted by hand.")  # type: ignore[arg-type]  # any rows
        return None


def _ids_of(request: HttpRequest) -> list[UUID]:
    """Those that were ticked, even if they no longer match the filter: the answer is about them."""
    return [UUID(given) for given in request.POST.getlist(ACTION_CHECKBOX_NAME)]


def _reason_in(request: HttpRequest) -> str | None:
    """Raises InvalidFields."""
    given = storable_text(request.POST.get("reason", "")).strip()
    return reason_from_json({"reason": given}) if given else None


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
