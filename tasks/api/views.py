"""The endpoints: each translates a request to a verb or a selection, and what comes back to JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from rest_framework.permissions import SAFE_METHODS
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from tasks import clock, lifecycle
from tasks.api import problems
from tasks.api.answers import answer, json_bytes, no_content
from tasks.api.authentication import admit, authenticate, grant_of
from tasks.api.backpressure import Levels
from tasks.api.bodies import MAX_BATCH_BYTES, expect_nothing, parse_object, parse_optional, read_bytes
from tasks.api.creation import Answered, Asked
from tasks.api.deeds import done_once
from tasks.api.events import event_stream
from tasks.api.group_commit import GroupCommit
from tasks.api.idempotency import REPLAYED, once_of
from tasks.api.listing import listing_from
from tasks.api.making import NOTHING_MADE, many_made, one_made
from tasks.api.origins import comes_from_another_site
from tasks.api.pagination import SORTS, page_answer, page_of
from tasks.api.prefer import Wish
from tasks.api.reading import find_task, read_task, tasks_of, waited_for
from tasks.api.task_list import find_page
from tasks.api.throttle import fields_of
from tasks.contract import Enqueued, Once, TaskSpec
from tasks.errors import (
    ConflictingState,
    FieldError,
    Forbidden,
    ForeignOrigin,
    InvalidFields,
    KeyHeld,
    QueueFull,
    TaskServiceError,
    UnknownHandler,
)
from tasks.filtering import TASK_FILTERS
from tasks.grants import Scope
from tasks.models import Attempt, Task
from tasks.models.task import database
from tasks.pending import Situation
from tasks.resource import attempt_resource, latest_attempt, resource
from tasks.specs import changes_from_json, reason_from_json, retry_from_json, spec_from_json, specs_from_json
from tasks.states import Status
from tasks.unique import OnConflict

intake = GroupCommit()
levels = Levels()
WRONG = (InvalidFields, UnknownHandler)  # about what is asked for, now


# what a token needs for a method
MANAGES = {
    **dict.fromkeys(("GET", "HEAD"), Scope.READ),
    **dict.fromkeys(("POST", "PATCH", "DELETE"), Scope.MANAGE),
}
CREATES = {**MANAGES, "POST": Scope.CREATE}


class ApiView(APIView):
    """JSON whatever the client accepts; errors become problems by REST framework's EXCEPTION_HANDLER."""

    http_method_names = ("get", "post", "patch", "delete", "head", "options")
    scopes: ClassVar[Mapping[str, Scope | None]] = MANAGES

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {}  # Allow is for those who ask

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method not in SAFE_METHODS and comes_from_another_site(request):
            raise ForeignOrigin
        if scope := self._scope_for(str(request.method)):
            admit(request, scope)
        super().initial(request, *args, **kwargs)

    def _scope_for(self, method: str) -> Scope | None:
        """None where nothing is done or shown. A method for which none was chosen is the admins'."""
        if method == "OPTIONS" or method not in self.allowed_methods:
            return None
        return self.scopes.get(method, Scope.ADMIN)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        for name, text in fields_of(request).items():
            response.headers[name] = text
        return response

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        return JSONRenderer(), "application/json"

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return no_content(headers={"Allow": ", ".join(self.allowed_methods)})


class TaskCollection(ApiView):
    scopes = CREATES

    def get(self, request: Request) -> HttpResponse:
        wanted = listing_from(request, TASK_FILTERS, SORTS)
        page, count = find_page(tasks_of(request), wanted, grant_of(request))
        return page_answer(page, wanted, members=count)

    def post(self, request: Request) -> HttpResponse:
        body, grant, wish = read_bytes(request), grant_of(request), Wish.of(request)
        value, now = parse_object(body), partial(clock.now, database())
        try:
            specs = [spec_from_json(value, owner=grant.owner, queues=grant.queues, now=now)]
        except WRONG as error:
            return kept_answer(answered_before(once_of(request, body, grant), error))
        expect_allowed(request, specs)
        once = once_of(request, body, grant)
        answered = made(Asked(specs=specs, once=once, answer=partial(one_made, grant)))
        return waited_for(request, answered, wish) or kept_answer(answered)


class TaskBatch(ApiView):
    scopes = CREATES

    def post(self, request: Request) -> HttpResponse:
        """All or none, in one commit."""
        body, grant = read_bytes(request, limit_bytes=MAX_BATCH_BYTES), grant_of(request)
        value, now = parse_object(body), partial(clock.now, database())
        try:
            specs = specs_from_json(value, owner=grant.owner, queues=grant.queues, now=now)
        except WRONG as error:
            return kept_answer(answered_before(once_of(request, body, grant), error))
        expect_allowed(request, specs)
        once = once_of(request, body, grant)
        return kept_answer(made(Asked(specs=specs, once=once, answer=partial(many_made, grant))))


def made(asked: Asked) -> Answered:
    """Raises QueueFull, unless all that is asked for is the answer of an earlier request."""
    try:
        levels.expect_room(asked.specs)
    except QueueFull:
        if asked.once is None or not lifecycle.is_taken(asked.once):
            raise
        return intake.create(asked)
    try:
        answered = intake.create(asked)
    except BaseException:
        levels.take_back(asked.specs)
        raise
    if answered.replayed or answered.status == NOTHING_MADE:
        levels.take_back(asked.specs)
    return answered


def answered_before(once: Once | None, error: TaskServiceError) -> Answered:
    """What the same request came to while it was right: no time in it had passed. Or raises the error."""

    def refuse(tasks: Sequence[Enqueued]) -> Answered:
        raise error

    if once is None or not lifecycle.is_taken(once):
        raise error
    return intake.create(Asked(specs=[], once=once, answer=refuse))


def kept_answer(answered: Answered) -> HttpResponse:
    headers = {"Location": answered.location, REPLAYED: "true" if answered.replayed else ""}
    given = {name: text for name, text in headers.items() if text}
    kind = "application/json" if answered.status < 400 else problems.CONTENT_TYPE
    return answer(answered.body.encode(), status=answered.status, content_type=kind, headers=given)


class TaskDetail(ApiView):
    def get(self, request: Request, task_id: str) -> HttpResponse:
        return read_task(request, task_id)

    def patch(self, request: Request, task_id: str) -> HttpResponse:
        body = read_bytes(request)
        changes = changes_from_json(parse_object(body))
        expect_queues(request, {changes["queue"]} if "queue" in changes else set())
        return only_pending(request, task_id, body, "changed", partial(lifecycle.change, changes=changes))

    def delete(self, request: Request, task_id: str) -> HttpResponse:
        expect_nothing(request)
        if lifecycle.delete([find_task(request, task_id).pk]):
            raise ConflictingState("deleted", Status.PROCESSING)
        return no_content()


class TaskRunNow(ApiView):
    def post(self, request: Request, task_id: str) -> HttpResponse:
        return only_pending(request, task_id, expect_nothing(request), "run now", lifecycle.run_now)


class TaskByQuery(ApiView):
    """``GET /task?id=…``, as the first clients know it."""

    def get(self, request: Request) -> HttpResponse:
        task_id = request.GET.get("id")
        if not task_id:
            raise InvalidFields([FieldError(code="required", detail="id is required", parameter="id")])
        return read_task(request, task_id)


class TaskCancel(ApiView):
    def post(self, request: Request, task_id: str) -> HttpResponse:
        """200: it is cancelled. 202: it ran, and was asked to stop; it may end by itself before it hears."""
        body = read_bytes(request)
        reason = reason_from_json(parse_optional(body))

        def cancel() -> Answered:
            task = find_task(request, task_id)
            answer = lifecycle.cancel([task.pk], reason=reason)
            if task.pk in answer.finished:
                raise ConflictingState("cancelled", answer.finished[task.pk])
            task = find_task(request, task_id)
            asked = answer.requested and task.status != Status.CANCELLED  # it may have stopped by now
            return _steered(task, status=202 if asked else 200)

        return kept_answer(done_once(request, task_id, body, cancel))


class TaskRetry(ApiView):
    def post(self, request: Request, task_id: str) -> HttpResponse:
        body = read_bytes(request)
        how = retry_from_json(parse_optional(body))

        def retry() -> Answered:
            moved = lifecycle.retry([find_task(request, task_id).pk], **how)
            task = find_task(request, task_id)
            if not moved:
                if holder := lifecycle.holder_of_its_key(task.pk):
                    known = tasks_of(request).filter(pk=holder).exists()
                    raise KeyHeld(task.status, holder if known else None)
                raise ConflictingState("retried", task.status)
            return _steered(task)

        return kept_answer(done_once(request, task_id, body, retry))


class TaskEvents(ApiView):
    def get(self, request: Request, task_id: str) -> HttpResponseBase:
        def find() -> Task:
            authenticate(request, Scope.READ)  # each time: the token may have been withdrawn meanwhile
            return find_task(request, task_id)

        return event_stream(request, find)


class TaskAttempts(ApiView):
    def get(self, request: Request, task_id: str) -> HttpResponse:
        """Newest first. The one that runs or succeeded leads the first page, beyond its limit."""
        wanted = listing_from(request, {})
        task = find_task(request, task_id)
        page = page_of(Attempt.objects.using(database()).filter(task=task), wanted, attempt_resource)
        return page_answer(page, wanted, first=[] if wanted.place else latest_attempt(task))


def only_pending(
    request: HttpRequest, task_id: str, body: bytes, wish: str, verb: Callable[[UUID], Status | None]
) -> HttpResponse:
    """The task after a verb that moves nothing but a pending one."""

    def act() -> Answered:
        status = verb(find_task(request, task_id).pk)
        if status not in (Status.PENDING, None):
            raise ConflictingState(wish, status)
        return _steered(find_task(request, task_id))

    return kept_answer(done_once(request, task_id, body, act))


def _steered(task: Task, *, status: int = 200) -> Answered:
    return Answered(status=status, body=json_bytes(resource(task, Situation())).decode())


def expect_allowed(request: HttpRequest, specs: Sequence[TaskSpec]) -> None:
    """Raises Forbidden for tasks that the token may not make."""
    expect_queues(request, {spec.queue for spec in specs})
    replaces = any(spec.unique and spec.unique.on_conflict == OnConflict.REPLACE for spec in specs)
    if replaces and not grant_of(request).allows(Scope.MANAGE):
        raise Forbidden(f"This token may not replace tasks: that needs the scope {Scope.MANAGE}.")


def expect_queues(request: HttpRequest, queues: Collection[str]) -> None:
    """Raises Forbidden for a queue that the token is not for."""
    if not grant_of(request).serves(queues):
        queues = ", ".join(grant_of(request).queues or ())
        raise Forbidden(f"This token is for these queues alone: {queues}.")
