"""``/workers``: who works, on what, for whom that is to be seen, and the lever that ends one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import stats, tokens
from tasks.api.openapi.document import document
from tasks.grants import USUAL, Scope
from tasks.models import Worker
from tasks.models.task import database
from tasks.resource import time_text
from tasks.states import Status
from tasks.tests.api_client import Api, api
from tasks.tests.holders import Holder
from tasks.tests.rows import MakeTask, make_worker
from tasks.tests.test_indexes import assert_only, plans_of
from tasks.tests.workers import RunWorkers, run_workers, wait_until

__all__ = ["api", "run_workers"]

pytestmark = pytest.mark.django_db

STEERS = (Scope.READ, Scope.QUEUES)


@pytest.fixture
def tokens_required(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tokens, "_tried", {})
    with override_settings(TASKSERVICE={**settings.TASKSERVICE, "authentication": "required"}):
        yield


guarded = pytest.mark.usefixtures("tokens_required")


def shown(who: Any) -> list[dict[str, Any]]:
    answer = who.ask("GET", "/workers")
    assert answer.status == 200, answer.body
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_a_worker_tells_where_it_is_and_what_it_runs_since_when(api: Api, make_task: MakeTask) -> None:
    since = timezone.now() - timedelta(minutes=1)
    worker = make_worker("mail", host="web-1", pid=4711, busy=1, memory_mb=132, recycled=4, version="v7")
    held = {"worker_id": worker.pk, "queue": "mail", "timeout_seconds": 300.0}
    second = make_task(Status.PROCESSING, attempted_at=since + timedelta(seconds=5), **held)
    first = make_task(Status.PROCESSING, attempted_at=since, **held)

    [told] = shown(api)

    tasks = told.pop("tasks")
    seen = time_text(worker.last_seen_at)
    assert told == {
        "id": worker.pk, "state": "alive", "host": "web-1", "pid": 4711, "version": "v7",
        "queues": ["mail"], "handlers": ["demo.echo"], "executors": 3, "busy": 1, "memory_mb": 132,
        "recycled": 4, "started_at": seen, "last_seen_at": seen,
        "drain_requested_at": None, "drain_requested_by": "",
    }  # fmt: skip
    assert [task["id"] for task in tasks] == [str(first.pk), str(second.pk)]
    assert tasks[0] == {
        "id": str(first.pk), "handler": "demo.echo", "queue": "mail", "since": time_text(since),
        "timeout_seconds": 300, "cancel_requested_at": None,
    }  # fmt: skip


def test_the_living_the_draining_and_the_gone_are_told_apart(api: Api) -> None:
    make_worker(id="a")
    make_worker(id="b", drain_requested_at=timezone.now())
    make_worker(id="c", unseen=timedelta(minutes=1))

    assert [(worker["id"], worker["state"]) for worker in shown(api)] == [
        ("a", "alive"), ("b", "draining"), ("c", "gone"),
    ]  # fmt: skip


def test_workers_come_by_id_and_page_by_page(api: Api) -> None:
    for name in ("c", "a", "b"):
        make_worker(id=name)

    first = api.get("/workers?limit=2").json()
    second = api.get(first["next"]).json()

    assert [worker["id"] for worker in first["items"] + second["items"]] == ["a", "b", "c"]
    assert second["next"] is None
    assert api.get(second["previous"]).json()["items"] == first["items"]


def test_however_many_workers_there_are_the_statements_are_as_few(api: Api, make_task: MakeTask) -> None:
    def asked() -> int:
        with CaptureQueriesContext(connections[database()]) as heard:
            shown(api)
        return len(heard)

    make_worker()
    few = asked()
    for _ in range(10):
        make_task(Status.PROCESSING, worker_id=make_worker().pk, attempted_at=timezone.now())

    assert asked() == few <= 5


def test_tasks_in_hand_are_found_by_their_leases(api: Api, make_task: MakeTask) -> None:
    make_task(Status.PROCESSING, worker_id=make_worker().pk)

    assert_only(plans_of(lambda: shown(api)), "task_lease_idx")


def test_the_tasks_of_a_page_end_where_the_document_says(
    api: Api, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = document()["components"]["schemas"]["Worker"]["properties"]["tasks"]["description"]
    assert f"{stats.HELD_LOOKED_AT:,} whose leases end first" in said
    monkeypatch.setattr(stats, "HELD_LOOKED_AT", 2)
    ends = timezone.now() + timedelta(minutes=1)
    for number in (3, 1, 2):
        worker = make_worker(id=str(number))
        make_task(Status.PROCESSING, worker_id=worker.pk, lease_expires_at=ends + timedelta(seconds=number))

    assert [len(worker["tasks"]) for worker in shown(api)] == [1, 1, 0]


# -- who sees what


@guarded
@pytest.mark.parametrize("scopes", [[Scope.READ], STEERS], ids=["reads", "steers"])
def test_a_token_sees_its_owners_tasks_in_hand_alone(make_task: MakeTask, scopes: Any) -> None:
    worker = make_worker()
    mine = make_task(Status.PROCESSING, worker_id=worker.pk, owner="app")
    make_task(Status.PROCESSING, worker_id=worker.pk, owner="other")

    [told] = shown(Holder("app", scopes))

    assert [task["id"] for task in told["tasks"]] == [str(mine.pk)]
    assert len(shown(Holder.almighty())[0]["tasks"]) == 2


OPERATORS = ("host", "pid", "version", "handlers", "busy", "memory_mb", "recycled", "drain_requested_by")


@guarded
def test_what_is_the_operators_own_is_for_those_who_steer() -> None:
    make_worker(busy=1, memory_mb=7, drain_requested_at=timezone.now(), drain_requested_by="ann")

    [reader], [steerer] = shown(Holder("reader", USUAL)), shown(Holder("steerer", STEERS))

    assert [reader[name] for name in OPERATORS] == [None] * len(OPERATORS)
    assert None not in [steerer[name] for name in OPERATORS]
    assert {name for name in reader if reader[name] != steerer[name]} == set(OPERATORS)


@guarded
def test_a_token_that_names_queues_sees_who_serves_these_and_no_other_queue() -> None:
    make_worker("mail", "secret", id="both")
    make_worker("secret", id="other")
    make_worker(id="all")

    told = {worker["id"]: worker["queues"] for worker in shown(Holder("app", STEERS, queues=["mail"]))}

    assert told == {"all": None, "both": ["mail"]}


@guarded
def test_a_token_learns_from_workers_of_no_queue_that_the_list_of_queues_hides(make_task: MakeTask) -> None:
    make_task(queue="shared", owner="app")
    make_task(queue="secret", owner="other")
    make_worker("shared", "secret", id="both", handlers=["secret.handler"])
    make_worker("secret", id="other")
    make_worker(id="all")
    reader = Holder("app", [Scope.READ])

    told = {worker["id"]: worker["queues"] for worker in shown(reader)}

    assert told == {"all": None, "both": ["shared"], "other": []}
    assert b"secret" not in reader.ask("GET", "/workers").body


@guarded
def test_the_queues_that_a_reader_knows_are_read_once_for_a_page(make_task: MakeTask) -> None:
    def asked() -> int:
        with CaptureQueriesContext(connections[database()]) as heard:
            shown(reader)
        return len(heard)

    make_task(queue="mail", owner="app")
    reader = Holder("app", [Scope.READ])
    asked()  # the token has been looked up
    make_worker("mail")
    few = asked()
    for _ in range(10):
        make_worker("mail", "secret")

    assert asked() == few


# -- drain


@guarded
def test_a_drain_keeps_the_tokens_owner_and_is_safe_to_repeat(
    django_capture_on_commit_callbacks: Any, caplog: pytest.LogCaptureFixture
) -> None:
    worker = make_worker()
    path = f"/workers/{worker.pk}/drain"

    with caplog.at_level(logging.INFO), django_capture_on_commit_callbacks(execute=True):
        first = Holder("one", STEERS, owner="shop").ask("POST", path)
    again = Holder("two", STEERS).ask("POST", path)

    worker.refresh_from_db()
    assert worker.drain_requested_by == "shop"
    assert first.json() == {
        "id": worker.pk, "state": "draining", "drain_requested_at": time_text(worker.drain_requested_at),
        "drain_requested_by": "shop",
    }  # fmt: skip
    assert (again.status, again.body) == (200, first.body)
    [line] = [line for line in caplog.records if line.getMessage() == "worker.drained"]
    assert line.__dict__["fields"] == {"workers": worker.pk, "moved": 1, "by": "shop"}


@pytest.mark.django_db(transaction=True)
def test_a_drained_worker_ends(api: Api, run_workers: RunWorkers) -> None:
    worker = run_workers("--n", "1")
    wait_until(Worker.objects.exists, "its row")
    [row] = Worker.objects.all()

    assert api.ask("POST", f"/workers/{row.pk}/drain").status == 200

    assert worker.wait() == 0


@pytest.mark.parametrize("worker_id", ["nobody", "x" * 300, "%00", "a%0ab", "%ff", "%3Cscript%3E"])
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k1"}], ids=["plain", "keyed"])
def test_a_worker_that_is_not_there_is_not_found(api: Api, worker_id: str, headers: dict[str, str]) -> None:
    answer = api.ask("POST", f"/workers/{worker_id}/drain", b"", **headers)

    assert answer.problem(404, "not-found")["detail"] == "worker not found"


@guarded
@pytest.mark.parametrize(
    ("queues", "status"), [(["mail"], 200), (["mail", "other"], 403), ([], 403), (["other"], 404)]
)
def test_a_token_that_names_queues_drains_who_serves_none_but_these(queues: list[str], status: int) -> None:
    worker = make_worker(*queues)

    answer = Holder("app", STEERS, queues=["mail"]).ask("POST", f"/workers/{worker.pk}/drain")

    assert answer.status == status
    worker.refresh_from_db()
    assert (worker.drain_requested_at is not None) == (status == 200)


@guarded
def test_no_other_scope_drains_a_worker() -> None:
    worker = make_worker()

    Holder("app", USUAL).ask("POST", f"/workers/{worker.pk}/drain").problem(403, "forbidden")
