"""Why a task is pending: for each answer, that a claim goes by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from math import ceil
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import lifecycle
from tasks.api.pagination import ROWS_OF_A_PART
from tasks.models import Task
from tasks.models.task import database
from tasks.pending import Code, Situation
from tasks.states import Status, WaitingFor
from tasks.tests.api_client import Api
from tasks.tests.rows import HANDLER, MakeTask, claimant, make_worker

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
STRANGER = "gone.away"


@dataclass(frozen=True)
class Scene:
    """What is there besides a task, and whom of those who claim it keeps from it."""

    columns: dict[str, Any] = field(default_factory=dict)
    paused: bool = False
    workers: tuple[Callable[[], Any], ...] = ()  # alive or not
    claims: bool = False  # whether one of the workers alive takes it


def later(**columns: Any) -> dict[str, Any]:
    return {"ready_at": None, "waiting_for": WaitingFor.TIME, "run_at": timezone.now() + HOUR, **columns}


EVERYTHING, MAIL, OTHERS = (
    make_worker,
    lambda: make_worker("mail"),
    lambda: make_worker("images", "reports"),
)
DEAD = lambda: make_worker(unseen=timedelta(minutes=3))  # noqa: E731 - one of a row of such

SCENES = {
    "ready": (Code.READY, Scene(workers=(EVERYTHING,), claims=True)),
    "ready for the one worker of its queue": (Code.READY, Scene(workers=(OTHERS, MAIL), claims=True)),
    "due": (Code.READY, Scene(later(run_at=timezone.now() - HOUR), workers=(MAIL,), claims=True)),
    "scheduled": (Code.SCHEDULED, Scene(later(), workers=(EVERYTHING,))),
    "waits for its next attempt": (Code.RETRY_BACKOFF, Scene(later(attempt=1), workers=(EVERYTHING,))),
    "retried by hand, and scheduled": (
        Code.SCHEDULED,
        Scene(later(attempt=5, attempts_before=5), workers=(EVERYTHING,)),
    ),
    "paused": (Code.QUEUE_PAUSED, Scene(paused=True, workers=(EVERYTHING,))),
    "paused, for a worker of this queue": (Code.QUEUE_PAUSED, Scene(paused=True, workers=(MAIL,))),
    "no worker at all": (Code.NO_WORKERS, Scene()),
    "a dead worker": (Code.NO_WORKERS, Scene(workers=(DEAD,))),
    "a worker that drains": (
        Code.NO_WORKERS,
        Scene(workers=(lambda: make_worker(drain_requested_at=timezone.now()),)),
    ),
    "workers of other queues": (Code.NO_WORKERS, Scene(workers=(OTHERS,))),
    "a handler that nobody knows": (Code.NO_HANDLER, Scene({"handler": STRANGER}, workers=(EVERYTHING,))),
    "parked": (
        Code.NO_HANDLER,
        Scene({"handler": STRANGER, "ready_at": None, "waiting_for": WaitingFor.HANDLER}, workers=(MAIL,)),
    ),
    "a handler that only a worker of another queue knows": (
        Code.NO_HANDLER,
        Scene({"handler": STRANGER}, workers=(lambda: make_worker("images", handlers=[STRANGER]), MAIL)),
    ),
}


@pytest.mark.parametrize(("code", "scene"), SCENES.values(), ids=SCENES)
def test_a_claim_goes_by_the_reason(make_task: MakeTask, code: Code, scene: Scene) -> None:
    task = make_task(queue="mail", **scene.columns)
    if scene.paused:
        lifecycle.pause(["mail"])
    for worker in scene.workers:
        worker()

    situation = Situation()
    why = situation.why(task)
    taken = [
        lease.task_id
        for worker in situation.living
        for lease in lifecycle.claim(worker, limit=10, now=timezone.now())
    ]

    assert why is not None
    assert why.code == code
    assert taken == ([task.pk] if scene.claims else [])
    assert scene.claims == (code == Code.READY)


@pytest.mark.parametrize("status", sorted({*Status} - {Status.PENDING}))
def test_only_pending_tasks_have_a_reason(make_task: MakeTask, status: Status) -> None:
    assert Situation().why(make_task(status)) is None


def why(task: Task) -> str:
    reason = Situation().why(task)
    assert reason is not None
    return reason.detail


def test_workers_that_drain_are_told_of(make_task: MakeTask) -> None:
    make_worker("mail", drain_requested_at=timezone.now())

    assert "The workers that take queue mail drain: start another" in why(make_task(queue="mail"))


def test_a_pause_tells_by_whom_and_why_and_how_to_end_it(make_task: MakeTask) -> None:
    make_worker()
    lifecycle.pause(["mail"], by="ada", reason="the provider is down")

    detail = why(make_task(queue="mail"))

    assert detail.startswith("Queue mail is paused since 20")
    assert "by ada (the provider is down)" in detail
    assert "`manage.py tasks resume mail`" in detail


def test_who_is_missing_is_told_with_how_to_start_it(make_task: MakeTask) -> None:
    make_worker("mail", unseen=timedelta(minutes=3, seconds=2))
    task = make_task(queue="mail")

    assert "No worker that takes queue mail has been seen for 3 min" in why(task)
    assert "start one with `manage.py runworkers`." in why(task)
    make_worker("images")
    assert "`manage.py runworkers --queues mail`" in why(task)


def test_what_else_is_in_the_way_is_told_as_well(make_task: MakeTask) -> None:
    lifecycle.pause(["mail"])

    reason = Situation().why(make_task(queue="mail", **later()))

    assert reason is not None
    assert (reason.code, reason.until is not None) == (Code.SCHEDULED, True)
    assert "Queue mail is paused" in reason.detail
    assert "No worker that takes queue mail is running" in reason.detail


def test_a_resumed_queue_forgets_who_paused_it() -> None:
    lifecycle.pause(["mail"], by="ada", reason="x")
    lifecycle.resume(["mail"])
    lifecycle.pause(["mail"])

    assert Situation().paused["mail"].paused_by == ""
    assert Situation().paused["mail"].pause_reason == ""


@pytest.mark.parametrize(("status", "reads"), [(Status.PENDING, 2), (Status.COMPLETED, 0)])
def test_a_page_of_200_costs_two_reads_and_none_where_nothing_is_pending(
    make_task: MakeTask, status: Status, reads: int
) -> None:
    api = Api()
    make_task(status, queue="q0")
    with CaptureQueriesContext(connections[database()]) as first:
        api.get("/tasks?limit=200")
    for number in range(199):
        make_task(status, queue=f"q{number % 7}", handler=f"{HANDLER}{number % 5}")

    with CaptureQueriesContext(connections[database()]) as heard:
        page = api.get("/tasks?limit=200").json()

    assert len(page["items"]) == 200
    assert len(heard) - len(first) == ceil(200 / ROWS_OF_A_PART) - 1  # what a list is read in
    assert (
        len([query for query in heard if 'FROM "tasks"' not in query["sql"] and "now()" not in query["sql"]])
        == reads
    )


def test_a_new_task_is_answered_by_what_was_known_a_second_ago(make_task: MakeTask) -> None:
    api = Api()
    api.create(title="a", queue="mail")
    lifecycle.pause(["mail"])

    with CaptureQueriesContext(connections[database()]) as heard:
        made = api.create(title="b", queue="mail")

    assert not [query for query in heard if "workers" in query["sql"] or "queues" in query["sql"]]
    assert made["pending_reason"]["code"] == "no_workers"
    assert api.task(made["id"])["pending_reason"]["code"] == "queue_paused"


def test_a_claim_serves_what_the_reasons_say() -> None:
    assert claimant().serves("mail")
    assert claimant("mail").serves("mail")
    assert not claimant("images").serves("mail")
