"""Doing one thing to all tasks that match: counted, confirmed and watched here, done in the background."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from tasks import operations
from tasks.admin import page, words
from tasks.admin.choices import in_words, value_in_words
from tasks.admin.chosen import EVER, SPANS, BadAddress, Chosen, chosen
from tasks.admin.rights import rights_of
from tasks.admin.window import Window
from tasks.models import Operation, Task
from tasks.operations import HANDLER, QUEUE, VERBS, Verb
from tasks.pending import Code, Situation
from tasks.selection import COUNTED, Counted
from tasks.states import Status, WaitingFor

LABELS = {"retry": "Run again", "cancel": "Cancel", "delete": "Delete"}
ASKED = {"retry": "Run {} again", "cancel": "Cancel {}", "delete": "Delete {}"}
WHICH = {"retry": "finished", "cancel": "unfinished", "delete": "finished"}
EFFECTS = {
    "retry": "Each becomes pending again, with a new budget of attempts; its history stays.",
    "cancel": "What is pending will never run. What is running is asked to stop.",
    "delete": "They are gone for good, with their attempts, results and errors.",
}
USUAL_SPAN = "week"


@admin.register(Operation)
class OperationAdmin(Window):
    """Belongs to who started it; who could have started it may stop it, too."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("tasks.view_task") or request.user.has_perm("tasks.change_task")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and bool(_allowed(request))

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, {"title": "Operations", **(extra_context or {})})

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [self._title(request).__name__, "state", "so_far", "by", "made"]

    @admin.display(description="Operation")
    def what(self, operation: Operation) -> str:
        return f"{LABELS[operation.verb]}: {in_words(operation, whole=True)}"

    @admin.display(description="Operation")
    def outline(self, operation: Operation) -> str:
        """For who may not see payloads and errors, and for histories, which anybody reads."""
        return f"{LABELS[operation.verb]}: {in_words(operation, whole=False)}"

    def _title(self, request: HttpRequest) -> Callable[[Operation], str]:
        return self.what if rights_of(request).look_inside else self.outline

    @admin.display(description="Status")
    def state(self, operation: Operation) -> SafeString:
        return _badge(operation, None if operation.ended_at else operations.task_of(operation))

    @admin.display(description="So far")
    def so_far(self, operation: Operation) -> str:
        return operations.told(operation.came_to)

    @admin.display(description="Started by")
    def by(self, operation: Operation) -> str:
        return operation.user_name

    @admin.display(description="Started")
    def made(self, operation: Operation) -> SafeString | str:
        return words.when(operation.created_at, timezone.now())

    # -- starting one

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        given = request.POST if request.method == "POST" else request.GET
        params = {name: str(value) for name, value in given.items()}
        params.setdefault("created", USUAL_SPAN)
        verb = _verb(request, params)
        try:
            found = chosen(
                params,
                may_see_payloads=rights_of(request).look_inside,
                statuses=verb.statuses,
                spared=HANDLER,
                newest=_newest(params),
            )
        except BadAddress as error:
            raise Http404 from error
        if request.method == "POST" and not found.complaint:
            return self._start(request, verb, found)
        return self._ask(request, verb, found)

    def _ask(self, request: HttpRequest, verb: Verb, found: Chosen) -> HttpResponse:
        nothing = found.complaint or found.selection.newest is None
        counted = Counted(0, whole=True) if nothing else found.selection.count()
        number = _number(counted, f"{WHICH[verb.name]} task")
        context = {
            **self.admin_site.each_context(request),
            "title": f"{LABELS[verb.name]}: all that match",
            "opts": self.opts,
            "verb": verb.name,
            "verbs": [(name, LABELS[name]) for name in _allowed(request)],
            "spans": [*((key, text) for key, (text, _) in SPANS.items()), (EVER, "ever")],
            "usual_span": found.given["created"] in {*SPANS, EVER},
            "found": found,
            "given": [*_described(found)],
            "counted": counted,
            "capped": COUNTED,
            "number": number,
            "doing": ASKED[verb.name].format(number),
            "effect": EFFECTS[verb.name],
            "at_once": operations.AT_ONCE,
            "obstacle": _obstacle(),
            "back": f"{reverse('admin:tasks_task_changelist')}?{_query(found)}",
        }
        return render(request, "admin/tasks/operation/ask.html", context)

    def _start(self, request: HttpRequest, verb: Verb, found: Chosen) -> HttpResponse:
        operation = operations.start(
            verb,
            found.selection,
            newest=found.selection.newest,
            counted=found.selection.count(),
            user_key=str(request.user.pk),
            user_name=request.user.get_username(),
        )
        self.note(request, [operation], f"Started: {self.outline(operation)}")
        return HttpResponseRedirect(reverse("admin:tasks_operation_change", args=(operation.pk,)))

    # -- watching one

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return []  # the template shows the facts itself

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if request.method == "POST" and (operation := self.get_object(request, object_id)) is not None:
            self._pull(request, operation)
            return HttpResponseRedirect(request.path)
        return super().change_view(request, object_id, form_url, extra_context)

    def _pull(self, request: HttpRequest, operation: Operation) -> None:
        go_on = "go_on" in request.POST
        may = _may_go_on(request, operation) if go_on else _may_stop(request, operation)
        if not (self.has_view_permission(request) and may):
            raise PermissionDenied
        if "stop" in request.POST:
            stopped = operations.stop(operation, by=request.user.get_username())
            self.tell(request, "Stopped." if stopped else "It had ended.", done=stopped)
            if stopped:
                self.note(request, [operation], f"Stopped: {operations.told(operation.came_to)}")
        elif go_on and operations.go_on(operation):
            self.tell(request, "It goes on where it was.", done=True)
            self.note(request, [operation], "Let go on.")

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        operation = kwargs["obj"]
        task = operations.task_of(operation)
        live = operation.ended_at is None
        context |= {
            "title": self._title(request)(operation),
            "subtitle": None,
            "badge": _badge(operation, task),
            "facts": [(label, value) for label, value in _facts(operation) if value not in (None, "")],
            "told": operations.told(operation.came_to),
            "asked": operation.asked,
            "of": max(operation.expected, operation.asked),
            "expected": _number(Counted(operation.expected, whole=operation.is_whole), "task"),
            "is_live": live,
            "why": _why(task) if live else "",
            "stuck": live and (task is None or task.status in (Status.FAILED, Status.CANCELLED)),
            "may_stop": _may_stop(request, operation),
            "may_go_on": _may_go_on(request, operation),
        }
        return super().render_change_form(request, context, *args, **kwargs)


def _facts(operation: Operation) -> Iterator[page.Fact]:
    now = timezone.now()
    yield "Started by", operation.user_name
    yield "Started", words.moment(operation.created_at, now)
    yield "Ended", words.moment(operation.ended_at, now) if operation.ended_at else ""
    yield "Stopped by", operation.stopped_by
    yield "Counted before", _number(Counted(operation.expected, whole=operation.is_whole), "task")
    yield "Its task", page.link(Task, str(operation.task_id), str(operation.task_id))


def _badge(operation: Operation, task: Task | None) -> SafeString:
    if operation.ended_at:
        return (
            words.badge("cancelled", "Stopped") if operation.stopped_by else words.badge("completed", "Done")
        )
    if task is None:
        return words.badge("failed", "Its task is gone")
    if _rests(task):
        return words.badge(Status.PROCESSING, "Resting")
    return words.status_badge(task.status)


def _why(task: Task | None) -> str:
    """What keeps it from going on, in plain words."""
    if task is None:
        return "The task that did it has been deleted."
    if _rests(task):
        return ""
    if why := Situation().why(task):
        return "" if why.code == Code.READY else why.detail
    if task.status in (Status.FAILED, Status.CANCELLED):
        return f"The task that does it has {'failed' if task.status == Status.FAILED else 'been cancelled'}."
    return ""


def _rests(task: Task) -> bool:
    """Between two turns, so that other tasks get theirs; on its page that is no reason to worry."""
    due = task.run_at if task.waiting_for == WaitingFor.TIME and not task.attempt else None
    return due is not None and due > timezone.now()


def _obstacle() -> str:
    """What would keep an operation that begins now from being done; empty when nothing does."""
    now = timezone.now()
    why = Situation().why(Task(handler=HANDLER, queue=QUEUE, status=Status.PENDING, ready_at=now))
    return "" if why is None or why.code == Code.READY else why.detail


def _number(counted: Counted, what: str) -> str:
    """``1 task``, ``10,000+ tasks``."""
    one = counted == Counted(1, whole=True)
    return f"{counted.number:,}{'' if counted.whole else '+'} {what}{'' if one else 's'}"


def _allowed(request: HttpRequest) -> list[str]:
    return [name for name, verb in VERBS.items() if request.user.has_perm(verb.permission)]


def _may_stop(request: HttpRequest, operation: Operation) -> bool:
    return operation.user_key == str(request.user.pk) or _may_go_on(request, operation)


def _may_go_on(request: HttpRequest, operation: Operation) -> bool:
    """Who has begun it may have lost the permission since."""
    return request.user.has_perm(VERBS[operation.verb].permission)


def _verb(request: HttpRequest, params: dict[str, str]) -> Verb:
    """The one that was asked for, or one that can move anything; PermissionDenied where it is not allowed."""
    allowed, asked = _allowed(request), params.get("verb", "")
    if asked and asked not in allowed:
        raise PermissionDenied
    fitting = [name for name in allowed if "status" not in params or params["status"] in VERBS[name].statuses]
    return VERBS[asked or (fitting or allowed)[0]]


def _newest(params: dict[str, str]) -> UUID | None:
    """As it was when the tasks were counted: what came since is not meant."""
    try:
        return UUID(params["newest"]) if params.get("newest") else operations.newest()
    except ValueError as error:
        raise BadAddress from error


def _described(found: Chosen) -> Iterator[tuple[str, str]]:
    for name, value in found.given.items():
        if name != "created":
            yield name.replace("_", " "), value_in_words(name, value)
    if found.query:
        yield "search", found.query


def _query(found: Chosen) -> str:
    given = {name: value for name, value in found.given.items() if value != EVER}
    return urlencode({**given, **({"q": found.query} if found.query else {})})
