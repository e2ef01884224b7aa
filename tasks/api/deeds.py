"""Requests that steer something: with an Idempotency-Key each is done once, however often it is sent."""

from __future__ import annotations

from collections.abc import Callable

from django.db import OperationalError, transaction
from django.http import HttpRequest

from tasks import clock, lifecycle, postgres
from tasks.api.authentication import grant_of
from tasks.api.creation import Answered, replay, to_keep
from tasks.api.idempotency import once_of
from tasks.api.reading import find_task, uuid_of
from tasks.contract import Once
from tasks.errors import ConflictingState, KeyInFlight, TaskNotFound
from tasks.lifecycle.again import again
from tasks.models.task import database

Act = Callable[[], Answered]  # raises what is wrong, and then has done nothing


def done_once(request: HttpRequest, task_id: str, body: bytes, act: Act) -> Answered:
    """What ``act`` comes to for a task, or came to when the same request was here before.

    Raises what it does.
    """
    once = once_of(request, body, grant_of(request))
    if once is None:
        return act()
    try:
        uuid_of(task_id)  # or else the path could be too long to be kept
    except ValueError:
        raise TaskNotFound from None
    if grant_of(request).queues is not None:
        find_task(request, task_id)  # a token of the same owner's may see less
    return _decided(once, act)


def steered_once(request: HttpRequest, body: bytes, act: Act) -> Answered:
    """The same for what is no task, at a path that is short enough to be kept."""
    once = once_of(request, body, grant_of(request))
    return act() if once is None else _decided(once, act)


def steered_in_parts(request: HttpRequest, body: bytes, act: Act) -> Answered:
    """The same for what takes many transactions: with a key it is kept once all are done.

    So of two such requests at the same time both act; the answer of the first that is done is both's.
    """
    once = once_of(request, body, grant_of(request))
    if once is None:
        return act()
    done = None if lifecycle.is_taken(once) else act()
    return _decided(once, lambda: done or act())


def _decided(once: Once, act: Act) -> Answered:
    try:
        return _decide(once, act)
    except OperationalError as error:
        if postgres.lock_was_not_free(error):
            raise KeyInFlight from error
        raise


@again
def _decide(once: Once, act: Act) -> Answered:
    alias = database()
    with transaction.atomic(using=alias):
        kept = lifecycle.reserve([once], now=clock.now(alias))
        known = replay(once, kept)
        if known is None:
            known = _tried(act)
            lifecycle.keep([(once, to_keep(once, known))])
    if isinstance(known, Exception):
        raise known
    return known


def _tried(act: Act) -> Answered | ConflictingState:
    try:
        return act()
    except ConflictingState as error:
        return error
