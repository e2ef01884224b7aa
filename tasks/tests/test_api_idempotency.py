"""Idempotency-Key: a request that is sent again gives the first one's outcome, and makes nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connections
from django.utils import timezone

from tasks import lifecycle
from tasks.models import Idempotency, Task
from tasks.models.task import database
from tasks.tests.api_client import Answer, Api, api
from tasks.tests.api_server import api_server
from tasks.tests.databases import OwnDatabases, rows

__all__ = ["api"]

pytestmark = pytest.mark.django_db

BODY = {"handler": "demo.echo", "payload": {"a": 1}}


def a_day_ago() -> datetime:
    return timezone.now() - lifecycle.KEPT_FOR - timedelta(minutes=1)


def post(api: Api, key: str, body: Any = BODY, path: str = "/tasks") -> Answer:
    return api.ask("POST", path, json.dumps(body).encode(), **{"Idempotency-Key": key})


def test_the_same_request_again_gives_the_same_answer_and_makes_nothing(api: Api) -> None:
    first, second = post(api, "k1"), post(api, "k1")

    assert (first.status, second.status) == (201, 201)
    assert first.body == second.body
    assert first.headers["Location"] == second.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert Task.objects.count() == 1


def test_it_is_the_first_answer_whatever_has_become_of_the_task(api: Api) -> None:
    first = post(api, "k1")
    api.post(f"/tasks/{first.json()['id']}/cancel")
    assert post(api, "k1").json()["status"] == "pending"

    Task.objects.all().delete()

    assert post(api, "k1").body == first.body


def test_a_batch_is_made_once_too(api: Api) -> None:
    first, second = (post(api, "k1", {"tasks": [BODY] * 5}, "/tasks/batch") for _ in range(2))

    assert first.body == second.body
    assert Task.objects.count() == 5


def test_another_body_with_the_same_key_is_refused(api: Api) -> None:
    post(api, "k1")

    post(api, "k1", {**BODY, "priority": 1}).problem(422, "idempotency-mismatch")

    assert Task.objects.count() == 1


def test_keys_of_other_paths_and_without_quotes_are_told_apart_rightly(api: Api) -> None:
    assert post(api, '"k1"').body == post(api, "k1").body
    post(api, "k1", {"tasks": [BODY]}, "/tasks/batch")
    post(api, "K1")

    assert Task.objects.count() == 3


@pytest.mark.parametrize("key", ["", '""', "a b", "x" * 256, "é", 'a"b', "\t"])
def test_a_key_that_is_none_is_refused(api: Api, key: str) -> None:
    [error] = post(api, key).problem(400, "invalid-field")["errors"]

    assert error["header"] == "Idempotency-Key"
    assert Task.objects.count() == 0


@pytest.mark.parametrize(
    "body", [{"handler": "nobody.knows"}, {"handler": "demo.echo", "priority": 1000}, {}]
)
def test_a_refusal_is_not_kept_so_that_it_can_be_mended(api: Api, body: Any) -> None:
    assert post(api, "k1", body).status >= 400

    assert post(api, "k1").status == 201


def test_a_rejection_is_kept_for_who_heard_no_must_not_find_it_made(api: Api) -> None:
    wish = {**BODY, "unique": {"key": "one", "on_conflict": "reject"}}
    holder = api.create(**wish)
    first = post(api, "k1", wish)
    api.post(f"/tasks/{holder['id']}/cancel")

    again = post(api, "k1", wish)

    assert first.problem(409, "duplicate") == again.problem(409, "duplicate")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Location" not in again.headers
    assert post(api, "k2", wish).status == 201


def test_what_was_right_when_it_came_is_answered_the_same_later(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time in it may have passed, or its handler be gone."""
    soon = {**BODY, "expires_at": (timezone.now() + timedelta(minutes=1)).isoformat()}
    first, many = post(api, "k1", soon), post(api, "k1", {"tasks": [soon]}, "/tasks/batch")
    later = timezone.now() + timedelta(hours=1)
    monkeypatch.setattr("tasks.clock.now", lambda alias: later)

    assert post(api, "k1", soon).body == first.body
    assert post(api, "k1", {"tasks": [soon]}, "/tasks/batch").body == many.body
    post(api, "k2", soon).problem(400, "invalid-field")
    post(api, "k1", {**soon, "priority": 1000}).problem(422, "idempotency-mismatch")


def test_after_a_day_a_key_is_free_again(api: Api) -> None:
    first = post(api, "k1")
    Idempotency.objects.update(created_at=a_day_ago())

    again = post(api, "k1", {"handler": "demo.echo"})

    assert again.status == 201
    assert again.json()["id"] != first.json()["id"]
    assert post(api, "k1", {"handler": "demo.echo"}).body == again.body


def test_what_is_kept_is_forgotten_after_a_day_and_no_sooner(api: Api) -> None:
    post(api, "old")
    Idempotency.objects.update(created_at=a_day_ago())
    post(api, "new")

    assert lifecycle.forget(now=timezone.now()) == 1
    assert lifecycle.forget(now=timezone.now()) == 0
    assert [kept.key for kept in Idempotency.objects.all()] == ["new"]
    assert lifecycle.forget(now=timezone.now() + timedelta(days=2), limit=0) == 0


RACERS = 50


def test_many_at_the_same_instant_make_one_task(
    tmp_path_factory: pytest.TempPathFactory, own_databases: OwnDatabases
) -> None:
    """Through gunicorn, of two processes with several threads each."""
    folder = tmp_path_factory.mktemp("race")
    where = own_databases.make(folder)
    body = json.dumps(BODY).encode()
    with api_server(folder, where, TASKSERVICE_API_PROCESSES="2") as server:

        def ask(number: int) -> tuple[int, bytes]:
            return server.ask("POST", "/tasks", body, **{"Idempotency-Key": f"race-{number // RACERS}"})

        with ThreadPoolExecutor(RACERS) as clients:
            answers = list(clients.map(ask, range(3 * RACERS)))

    assert {status for status, _ in answers} == {201}
    assert len({body for _, body in answers}) == 3
    assert rows(where, "SELECT count(*) FROM tasks") == [(3,)]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_one_that_is_not_decided_is_waited_for_and_then_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process that was stopped in the middle, for example."""
    monkeypatch.setattr("tasks.api.creation.WAIT", timedelta(seconds=0.2))
    api = Api()
    with connections[database()].copy().cursor() as other:
        other.execute("BEGIN")
        other.execute(
            "INSERT INTO idempotency (owner, path, key, fingerprint, location, created_at)"
            " VALUES ('', '/tasks', 'k1', '', '', now())"
        )

        answer = post(api, "k1")
        answer.problem(409, "idempotency-in-flight")
        other.execute("ROLLBACK")
        other.connection.close()

    assert int(answer.headers["Retry-After"]) >= 1
    assert post(api, "k1").status == 201


@pytest.mark.postgres
def test_a_key_in_flight_is_told_as_such_and_harms_nobody_else(
    tmp_path_factory: pytest.TempPathFactory, own_databases: OwnDatabases
) -> None:
    """Through gunicorn, where statements have a limit of their own."""
    folder = tmp_path_factory.mktemp("in-flight")
    where = own_databases.make(folder)
    body = json.dumps(BODY).encode()
    with api_server(folder, where) as server, ThreadPoolExecutor(8) as clients:
        with psycopg.connect(where["DATABASE_URL"]) as holder:
            holder.execute(
                "INSERT INTO idempotency (owner, path, key, fingerprint, location, created_at)"
                " VALUES ('', '/tasks', 'k1', '', '', now())"
            )
            held = clients.submit(lambda: server.ask("POST", "/tasks", body, **{"Idempotency-Key": "k1"}))
            others = [clients.submit(server.ask, "POST", "/tasks", body) for _ in range(4)]

            assert held.result(30)[0] == 409
            assert {other.result(30)[0] for other in others} == {201}
            holder.rollback()

        assert server.ask("POST", "/tasks", body, **{"Idempotency-Key": "k1"})[0] == 201
