"""A queue that is full takes nothing more, says so, and takes more once there is room."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings
from django.utils import timezone

from tasks import stats
from tasks.api import backpressure, views
from tasks.api.backpressure import LOOK_CLOSER_SECONDS, LOOK_SECONDS, Level, Levels
from tasks.contract import TaskSpec
from tasks.errors import QueueFull
from tasks.models import Task
from tasks.tests.api_client import Api, api

__all__ = ["api"]

LIMIT = 5
NOW = timezone.now()


@pytest.fixture(autouse=True)
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(views, "levels", Levels())
    with override_settings(TASKSERVICE={**settings.TASKSERVICE, "max_pending": LIMIT}):
        yield


def specs(count: int, queue: str = "default") -> list[TaskSpec]:
    return [TaskSpec(handler="demo.echo", queue=queue)] * count


@pytest.mark.django_db
def test_a_full_queue_takes_no_more_and_others_do(api: Api) -> None:
    for _ in range(LIMIT):
        api.create(handler="demo.echo")

    answer = api.post("/tasks", {"handler": "demo.echo"})

    problem = answer.problem(429, "rate-limited")
    assert "default has 5 pending tasks" in problem["detail"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert api.create(handler="demo.echo", queue="other")["queue"] == "other"
    assert Task.objects.count() == LIMIT + 1


@pytest.mark.django_db
def test_a_batch_fits_or_is_refused_as_a_whole(api: Api) -> None:
    task = {"handler": "demo.echo"}
    api.create(**task)

    api.post("/tasks/batch", {"tasks": [task] * LIMIT}).problem(429, "rate-limited")

    assert Task.objects.count() == 1
    assert api.post("/tasks/batch", {"tasks": [task] * (LIMIT - 1)}).status == 201


@pytest.mark.django_db
def test_once_there_is_room_it_takes_more(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(LIMIT):
        made = api.create(handler="demo.echo")
    api.post("/tasks", {"handler": "demo.echo"}).problem(429, "rate-limited")
    api.post(f"/tasks/{made['id']}/cancel")

    monkeypatch.setattr(backpressure, "LOOK_CLOSER_SECONDS", -1.0)  # as if that time had passed

    assert api.post("/tasks", {"handler": "demo.echo"}).status == 201


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/tasks", "/tasks/batch"])
def test_a_full_queue_still_gives_the_answer_of_an_earlier_request(api: Api, path: str) -> None:
    task = {"handler": "demo.echo"}
    body = json.dumps(task if path == "/tasks" else {"tasks": [task]}).encode()
    key = {"Idempotency-Key": "k"}
    first = api.ask("POST", path, body, **key)
    for _ in range(LIMIT - 1):
        api.create(**task)

    again = api.ask("POST", path, body, **key)

    assert (again.status, again.body) == (201, first.body)
    api.ask("POST", path, body.replace(b"}", b', "priority": 1}', 1), **key).problem(
        422, "idempotency-mismatch"
    )
    api.ask("POST", path, body, **{"Idempotency-Key": "new"}).problem(429, "rate-limited")


@pytest.mark.django_db
def test_what_makes_nothing_takes_no_room(api: Api) -> None:
    body, key = b'{"handler": "demo.echo"}', {"Idempotency-Key": "k"}
    for _ in range(LIMIT + 1):
        assert api.ask("POST", "/tasks", body, **key).status == 201
        api.post("/tasks", {"handler": "nobody.knows"}).problem(422, "unknown-handler")

    for _ in range(LIMIT - 1):
        api.create(handler="demo.echo")

    api.post("/tasks", {"handler": "demo.echo"}).problem(429, "rate-limited")


@pytest.mark.django_db
def test_a_second_one_of_a_unique_key_takes_no_room(api: Api) -> None:
    unique = {"handler": "demo.echo", "unique": {"key": "k"}}

    answers = [api.post("/tasks", unique).status for _ in range(3 * LIMIT)]

    assert answers == [201, *[200] * (3 * LIMIT - 1)]
    assert api.post("/tasks/batch", {"tasks": [{"handler": "demo.echo"}] * (LIMIT - 1)}).status == 201


@pytest.mark.django_db
def test_what_was_there_before_counts(api: Api) -> None:
    Task.objects.bulk_create(Task(handler="demo.echo", created_at=NOW, ready_at=NOW) for _ in range(LIMIT))

    api.post("/tasks", {"handler": "demo.echo"}).problem(429, "rate-limited")


@pytest.mark.django_db
def test_what_waits_for_its_time_counts_with_what_is_ready(api: Api) -> None:
    for number in range(LIMIT):
        api.create(handler="demo.echo", delay_seconds=3600 * (number % 2))
    counted_anew = Levels()

    assert stats.pending_in("default") == LIMIT
    with pytest.raises(QueueFull):
        counted_anew.expect_room(specs(1))


def test_without_a_limit_nothing_is_counted() -> None:
    def never(*args: Any, **kwargs: Any) -> int:
        raise AssertionError

    with override_settings(TASKSERVICE={**settings.TASKSERVICE, "max_pending": 0}):
        Levels(never).expect_room(specs(1000))


def test_a_queue_is_counted_seldom() -> None:
    counted: list[str] = []

    def count(queue: str, *, most: int) -> int:
        counted.append(queue)
        return 0

    levels = Levels(count)
    for _ in range(LIMIT):
        levels.expect_room(specs(1))

    assert counted == ["default"]
    with pytest.raises(QueueFull):
        levels.expect_room(specs(1))


def test_requests_that_come_at_once_count_a_queue_once() -> None:
    together = threading.Barrier(2)
    counted: list[str] = []

    def count(queue: str, *, most: int) -> int:
        counted.append(queue)
        with suppress(threading.BrokenBarrierError):
            together.wait(0.5)  # for another that counts as well
        return 0

    levels = Levels(count)
    with ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            threads.submit(levels.expect_room, specs(1))

    assert counted == ["default"]


def test_what_is_refused_is_not_counted_in() -> None:
    levels = Levels(lambda queue, *, most: 0)
    with pytest.raises(QueueFull):
        levels.expect_room([*specs(2, "a"), *specs(LIMIT + 1, "b")])

    levels.expect_room(specs(LIMIT, "a"))


def test_any_number_of_names_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure, "QUEUES_KNOWN", 3)
    levels = Levels(lambda queue, *, most: 0)

    for number in range(20):
        levels.expect_room(specs(1, f"queue-{number}"))

    assert len(levels._levels) <= 3


@pytest.mark.parametrize(
    ("ready", "age", "old"),
    [
        (0, LOOK_SECONDS - 1, False),
        (0, LOOK_SECONDS + 1, True),
        (LIMIT, LOOK_CLOSER_SECONDS / 2, False),
        (LIMIT, LOOK_CLOSER_SECONDS + 1, True),
    ],
)
def test_one_that_is_nearly_full_is_looked_at_closer(ready: int, age: float, old: bool) -> None:
    assert Level(ready, 1000.0).is_old(LIMIT, 1000.0 + age) == old
