"""One task, for a request: found if it may be seen, waited for if that is wished, with an ETag."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag

from tasks.api import waiting
from tasks.api.answers import json_answer, tag_of
from tasks.api.authentication import grant_of
from tasks.api.creation import Answered
from tasks.api.prefer import Wish
from tasks.api.problems import is_outage
from tasks.errors import TaskNotFound
from tasks.grants import Scope
from tasks.models import Task, TaskQuerySet
from tasks.models.task import database
from tasks.pending import Situation
from tasks.resource import Described, resource


def tasks_of(request: HttpRequest) -> TaskQuerySet:
    """Every read begins here."""
    return Task.objects.using(database()).visible_to(grant_of(request))


def find_task(request: HttpRequest, task_id: str) -> Task:
    """Raises TaskNotFound, also for what is no id at all."""
    try:
        return tasks_of(request).get(pk=uuid_of(task_id))
    except (Task.DoesNotExist, ValueError):
        raise TaskNotFound from None


def uuid_of(text: str) -> UUID:
    """The one way in which we write an id, in either case; ValueError for the others that Python knows."""
    found = UUID(text)
    if str(found) != text.lower():
        raise ValueError("not the canonical form")
    return found


def task_answer(task: Described, *, status: int = 200, headers: dict[str, str] | None = None) -> HttpResponse:
    return json_answer(resource(task, Situation()), status=status, headers=headers)


def read_task(request: HttpRequest, task_id: str) -> HttpResponse:
    """As soon as it is as the request would like it, if it would wait for that; 304 if it is known."""
    wish, find = Wish.of(request), partial(find_task, request, task_id)
    task, waited = _waited_for(find, wish) if wish.seconds else (find(), False)
    response = task_answer(task, headers=wish.applied if waited else None)
    tag = quote_etag(tag_of(response.content))
    response.headers["ETag"] = tag
    return cast("HttpResponse", get_conditional_response(request, etag=tag, response=response))


def waited_for(request: HttpRequest, answered: Answered, wish: Wish) -> HttpResponse | None:
    """The answer with the new task as it is after the wait; None where that of its creation is the one.

    Whatever fails from here on: the task was made, and that has to be said.
    """
    if not wish.seconds or answered.replayed or not waiting.may_wait():
        return None
    if not grant_of(request).allows(Scope.READ):  # its result is not for everybody who may ask for it
        return None
    find = partial(find_task, request, answered.location.rpartition("/")[2])
    try:
        task, _ = _waited_for(find, wish)
    except Exception as error:
        if isinstance(error, TaskNotFound) or is_outage(error):
            return None
        raise
    shown = resource(task, Situation()) | ({"deduplicated": True} if answered.status == 200 else {})
    headers = {"Location": answered.location, **wish.applied}
    return json_answer(shown, status=answered.status, headers=headers)


def _waited_for(find: Callable[[], Task], wish: Wish) -> tuple[Task, bool]:
    return waiting.wait_until(wish.condition(find()), find, seconds=wish.seconds)
