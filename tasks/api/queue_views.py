"""``/queues``: how each stands, and what holds one back, lets it go on, or empties it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request

from tasks import lifecycle, members, queues
from tasks.api.answers import json_answer, json_bytes
from tasks.api.authentication import grant_of
from tasks.api.bodies import expect_nothing, parse_optional, read_bytes
from tasks.api.creation import Answered
from tasks.api.deeds import steered_in_parts, steered_once
from tasks.api.listing import listing_from
from tasks.api.pagination import counted_names, page_answer, page_of_names
from tasks.api.views import ApiView, expect_queues, kept_answer
from tasks.errors import InvalidFields, QueueNotFound, Unconfirmed
from tasks.grants import Scope
from tasks.limits import PAUSE_REASON_CHARS, is_queue_name
from tasks.models import Queue
from tasks.models.task import database
from tasks.pending import Situation
from tasks.queues import AllQueues, seen_by
from tasks.resource import paused_resource, queue_resource

READS = dict.fromkeys(("GET", "HEAD"), Scope.READ)
STEERS = {"POST": Scope.QUEUES}


class QueueCollection(ApiView):
    scopes: ClassVar = READS

    def get(self, request: Request) -> HttpResponse:
        """Those of which a request may know, by name."""
        wanted, situation = listing_from(request, {}), Situation()
        seen = seen_by(grant_of(request), situation)

        def show(names: Sequence[str]) -> Iterator[dict[str, Any]]:
            return (queue_resource(standing, situation.now) for standing in seen.standings(names))

        page, count = page_of_names(seen.names, wanted, show), counted_names(seen.names, wanted)
        return page_answer(page, wanted, members=count)


class QueueDetail(ApiView):
    scopes: ClassVar = READS

    def get(self, request: Request, name: str) -> HttpResponse:
        situation = Situation()
        seen = seen_by(grant_of(request), situation)
        if not is_queue_name(name) or seen.unknown([name]):
            raise QueueNotFound
        [standing] = seen.standings([name])
        return json_answer(queue_resource(standing, situation.now))


class QueuePause(ApiView):
    scopes: ClassVar = STEERS

    def post(self, request: Request, name: str) -> HttpResponse:
        """One that nothing uses can be paused too: what comes later waits."""
        expect_reach(request, name)
        body, by = read_bytes(request), grant_of(request).owner
        reason = read(parse_optional(body), PAUSE).get("reason", "")

        def pause() -> Answered:
            lifecycle.pause([name], by=by, reason=reason)
            return _state_of(name)

        return kept_answer(steered_once(request, body, pause))


class QueueResume(ApiView):
    scopes: ClassVar = STEERS

    def post(self, request: Request, name: str) -> HttpResponse:
        expect_reach(request, name)
        body, by = expect_nothing(request), grant_of(request).owner

        def resume() -> Answered:
            if not lifecycle.resume([name], by=by):
                expect_known(request, name)
            return _state_of(name)

        return kept_answer(steered_once(request, body, resume))


class QueuePurge(ApiView):
    scopes: ClassVar = STEERS

    def post(self, request: Request, name: str) -> HttpResponse:
        """Cancels what is pending, whosever it is; of very much some is left for another request."""
        expect_reach(request, name)
        body, by = read_bytes(request), grant_of(request).owner
        value = parse_optional(body)
        if value.get("confirm") != name:
            raise Unconfirmed(name)
        read(value, PURGE)

        def purge() -> Answered:
            purged = queues.purge(name, by=by)
            if not purged.cancelled:
                expect_known(request, name)
            return _answered({"name": name, "cancelled": purged.cancelled, "more": purged.more})

        return kept_answer(steered_in_parts(request, body, purge))


def expect_reach(request: HttpRequest, name: str) -> None:
    """Raises QueueNotFound for what no queue can be called, Forbidden where a token is for others."""
    if not is_queue_name(name):
        raise QueueNotFound
    expect_queues(request, {name})


def expect_known(request: HttpRequest, name: str) -> None:
    if AllQueues(Situation(), only=grant_of(request).queues).unknown([name]):
        raise QueueNotFound


def read(value: dict[str, Any], checks: Mapping[str, members.Check]) -> dict[str, Any]:
    given, errors = members.read_members(value, checks)
    if errors:
        raise InvalidFields(errors[: members.ERRORS_SHOWN])
    return given


def _state_of(name: str) -> Answered:
    queue = Queue.objects.using(database()).filter(pk=name).first()
    return _answered({"name": name, "paused": paused_resource(queue)})


def _answered(value: dict[str, Any]) -> Answered:
    return Answered(status=200, body=json_bytes(value).decode())


PAUSE: dict[str, members.Check] = {"reason": partial(members.text, most=PAUSE_REASON_CHARS)}
PURGE: dict[str, members.Check] = {"confirm": members.queue}
