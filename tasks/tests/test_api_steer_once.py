"""Idempotency-Key of what steers a task: sent again, it gives the first answer and does nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import Succeeded
from tasks.models import Task
from tasks.states import Status
from tasks.tests.api_client import Answer, Api, api
from tasks.tests.api_server import api_server
from tasks.tests.databases import OwnDatabases, rows
from tasks.tests.rows import MakeTask, claimant

__all__ = ["api"]

pytestmark = pytest.mark.django_db

RACERS = 30


def steer(api: Api, path: str, key: str, value: Any = None, method: str = "POST") -> Answer:
    body = b"" if value is None else json.dumps(value).encode()
    return api.ask(method, path, body, **{"Idempotency-Key": key})


def finish(queue: str) -> None:
    [lease] = lifecycle.claim(claimant(queue), limit=1, now=timezone.now())
    lifecycle.settle([(lease, Succeeded())], now=timezone.now())


def test_a_retry_that_is_sent_again_gives_no_second_budget(api: Api, make_task: MakeTask) -> None:
    path = f"/tasks/{make_task(Status.FAILED, queue='once').pk}/retry"
    first = steer(api, path, "k1")
    finish("once")

    second = steer(api, path, "k1")

    assert (first.status, second.status) == (200, 200)
    assert second.body == first.body
    assert second.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert Task.objects.get().status == Status.COMPLETED


@pytest.mark.parametrize(
    ("method", "deed", "value"),
    [("POST", "/cancel", {"reason": "x"}), ("POST", "/run-now", None), ("PATCH", "", {"priority": 3})],
)
def test_every_other_deed_is_answered_the_same_whatever_has_become_of_the_task(
    api: Api, method: str, deed: str, value: Any
) -> None:
    made = api.create(handler="demo.echo", delay_seconds=3600)
    path = f"/tasks/{made['id']}{deed}"
    first = steer(api, path, "k1", value, method)
    Task.objects.all().delete()

    again = steer(api, path, "k1", value, method)

    assert (again.status, again.body) == (200, first.body)
    steer(api, path, "k2", value, method).problem(404, "not-found")


def test_another_body_with_the_same_key_moves_nothing(api: Api) -> None:
    made = api.create(handler="demo.echo", priority=1)
    path = f"/tasks/{made['id']}"
    steer(api, path, "k1", {"priority": 2}, "PATCH")

    steer(api, path, "k1", {"priority": 3}, "PATCH").problem(422, "idempotency-mismatch")

    assert api.task(made["id"])["priority"] == 2


def test_a_conflict_is_kept_for_who_heard_no_must_not_find_it_done(api: Api, make_task: MakeTask) -> None:
    task = make_task(Status.PENDING, queue="once")
    path = f"/tasks/{task.pk}/retry"
    first = steer(api, path, "k1")
    finish("once")

    again = steer(api, path, "k1")

    first.problem(409, "conflict-state")
    assert again.problem(409, "conflict-state") == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert steer(api, path, "k2").status == 200


def test_what_is_not_there_is_not_kept(api: Api, make_task: MakeTask) -> None:
    task_id = uuid4()
    steer(api, f"/tasks/{task_id}/cancel", "k1").problem(404, "not-found")
    make_task(id=task_id)

    assert steer(api, f"/tasks/{task_id}/cancel", "k1").status == 200


@pytest.mark.parametrize("task_id", ["x", "y" * 300])
def test_what_is_no_id_is_not_found_with_a_key_too(api: Api, task_id: str) -> None:
    steer(api, f"/tasks/{task_id}/cancel", "k1").problem(404, "not-found")


def test_a_key_that_is_none_is_refused(api: Api, make_task: MakeTask) -> None:
    task = make_task(Status.FAILED)

    steer(api, f"/tasks/{task.pk}/retry", "a b").problem(400, "invalid-field")

    assert Task.objects.get().status == Status.FAILED


def test_many_retries_at_the_same_instant_are_one(
    tmp_path_factory: pytest.TempPathFactory, own_databases: OwnDatabases
) -> None:
    """Through gunicorn, of two processes with several threads each."""
    folder = tmp_path_factory.mktemp("race")
    where = own_databases.make(folder)
    with api_server(folder, where, TASKSERVICE_API_PROCESSES="2") as server:
        made = json.loads(server.ask("POST", "/tasks", b'{"handler":"demo.echo"}')[1])
        server.ask("POST", f"/tasks/{made['id']}/cancel")

        def ask(_: int) -> tuple[int, bytes]:
            return server.ask("POST", f"/tasks/{made['id']}/retry", b"", **{"Idempotency-Key": "race"})

        with ThreadPoolExecutor(RACERS) as clients:
            answers = set(clients.map(ask, range(RACERS)))

    assert [status for status, _ in answers] == [200]
    assert rows(where, "SELECT count(*) FROM idempotency") == [(1,)]
