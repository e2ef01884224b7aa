"""``/workers``: who works, on what and for how long; and what lets one end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from django.http import HttpResponse
from rest_framework.request import Request

from tasks import lifecycle, stats
from tasks.api.answers import json_bytes
from tasks.api.authentication import grant_of
from tasks.api.bodies import expect_nothing
from tasks.api.creation import Answered
from tasks.api.deeds import steered_once
from tasks.api.listing import listing_from
from tasks.api.pagination import counted_names, page_answer, page_of_names
from tasks.api.queue_views import READS, STEERS
from tasks.api.reading import tasks_of
from tasks.api.views import ApiView, kept_answer
from tasks.errors import Forbidden, WorkerNotFound
from tasks.grants import Grant
from tasks.lifecycle.workers import state_of
from tasks.models import Worker
from tasks.models.task import database
from tasks.pending import WORKERS_SEEN, Situation
from tasks.queues import seen_by
from tasks.resource import time_text, worker_resource


class WorkerCollection(ApiView):
    scopes: ClassVar = READS

    def get(self, request: Request) -> HttpResponse:
        """Those that serve a queue of the token's, by id, with the tasks in hand that it may see."""
        wanted, grant, situation = listing_from(request, {}), grant_of(request), Situation()

        def show(ids: Sequence[str]) -> Iterator[dict[str, Any]]:
            held = stats.in_hands(tasks_of(request).filter(worker_id__in=ids))
            whole = grant.sees_whole_queues
            only = grant.queues if whole else seen_by(grant, situation).names
            for worker in Worker.objects.using(database()).filter(pk__in=ids).order_by("pk"):
                tasks = held.get(worker.pk, [])
                yield worker_resource(worker, tasks, now=situation.now, whole=whole, only=only)

        ids = _ids(grant)
        return page_answer(page_of_names(ids, wanted, show), wanted, members=counted_names(ids, wanted))


class WorkerDrain(ApiView):
    scopes: ClassVar = STEERS

    def post(self, request: Request, worker_id: str) -> HttpResponse:
        """It takes nothing more, and ends when what it runs is done."""
        body, grant = expect_nothing(request), grant_of(request)
        _find(worker_id, grant)

        def drain() -> Answered:
            lifecycle.drain([worker_id], by=grant.owner)
            worker = _find(worker_id, grant)
            shown = {
                "id": worker.pk,
                "state": str(state_of(worker, now=Situation().now)),
                "drain_requested_at": time_text(worker.drain_requested_at),
                "drain_requested_by": worker.drain_requested_by,
            }
            return Answered(status=200, body=json_bytes(shown).decode())

        return kept_answer(steered_once(request, body, drain))


def _ids(grant: Grant) -> list[str]:
    """Of the workers that were seen last, those that serve a queue which the token is for."""
    rows = Worker.objects.using(database()).order_by("-last_seen_at").values_list("pk", "queues")
    return sorted(pk for pk, queues in rows[:WORKERS_SEEN] if _reaches(grant, queues))


def _reaches(grant: Grant, served: Sequence[str] | None) -> bool:
    return grant.queues is None or served is None or not set(served).isdisjoint(grant.queues)


def _find(worker_id: str, grant: Grant) -> Worker:
    """Raises WorkerNotFound, and Forbidden for one that serves queues which the token is not for."""
    named = Worker.objects.using(database()).filter(pk=worker_id)
    worker = named.first() if worker_id.isprintable() else None  # no database looks for a NUL
    if worker is None or not _reaches(grant, worker.queues):
        raise WorkerNotFound
    if grant.queues is not None and (worker.queues is None or not grant.serves(worker.queues)):
        raise Forbidden("This worker serves queues that this token is not for.")
    return worker
