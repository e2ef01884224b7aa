"""How tasks come to be: all or none, as they were asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from datetime import timezone as fixed
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django import Settings

from tasks import lifecycle
from tasks.contract import Enqueued, TaskSpec
from tasks.errors import TooLarge, UnknownHandler
from tasks.models import Task
from tasks.models.task import database
from tasks.states import Status, WaitingFor
from tasks.tests.rows import HANDLER

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def spec(**fields: Any) -> TaskSpec:
    return TaskSpec(**{"handler": HANDLER, **fields})


def test_a_task_is_pending_and_ready_at_once() -> None:
    [made] = lifecycle.enqueue([spec()])

    task = Task.objects.get()
    assert (task.pk, task.status, task.attempt, task.fence) == (made.id, Status.PENDING, 0, 0)
    assert (task.ready_at, task.waiting_for) == (task.created_at, None)


def test_what_is_given_back_is_what_the_row_says() -> None:
    [made] = lifecycle.enqueue(
        [
            spec(
                title="My first task",
                args=[1, "ä"],
                payload={"a": [1.5, None]},
                owner="me",
                queue="mail",
                priority=-100,
                tags=["a", "b"],
                run_at=timezone.now() + HOUR,
                expires_at=timezone.now() + 2 * HOUR,
                max_attempts=7,
                timeout=timedelta(seconds=1.5),
            )
        ]
    )

    task = Task.objects.get()
    names = {field.name for field in fields(Enqueued)} - {"deduplicated"}
    assert {name: getattr(made, name) for name in names} == {name: getattr(task, name) for name in names}


def test_no_timeout_is_no_timeout() -> None:
    lifecycle.enqueue([spec(timeout=None)])

    assert Task.objects.get().timeout_seconds is None


def test_ids_are_in_the_order_of_the_specs() -> None:
    made = lifecycle.enqueue([spec(title=str(number)) for number in range(300)])

    assert [task.title for task in made] == [str(number) for number in range(300)]
    assert list(Task.objects.order_by("id").values_list("title", flat=True)) == [task.title for task in made]


def test_a_time_to_come_makes_it_wait() -> None:
    run_at = timezone.now() + HOUR

    lifecycle.enqueue([spec(run_at=run_at)])

    task = Task.objects.get()
    assert (task.status, task.waiting_for) == (Status.PENDING, WaitingFor.TIME)
    assert (task.run_at, task.ready_at) == (run_at, None)


def test_a_time_that_has_passed_does_not() -> None:
    run_at = timezone.now() - HOUR

    lifecycle.enqueue([spec(run_at=run_at)])

    task = Task.objects.get()
    assert (task.run_at, task.waiting_for) == (run_at, None)
    assert task.ready_at == task.created_at


def test_a_time_of_another_zone_is_the_same_moment() -> None:
    run_at = (timezone.now() + HOUR).astimezone(fixed(timedelta(hours=-11)))

    lifecycle.enqueue([spec(run_at=run_at, expires_at=run_at)])

    task = Task.objects.get()
    assert (task.run_at, task.expires_at) == (run_at, run_at)


def test_nothing_is_nothing() -> None:
    assert lifecycle.enqueue([]) == []


def too_large() -> TaskSpec:
    return spec(payload={"a": "x" * 300_000})


def not_json() -> TaskSpec:
    return spec(payload={"at": timezone.now()})


def nul() -> TaskSpec:
    return spec(args=["a\0b"])


def bad_tag() -> TaskSpec:
    return spec(tags=["\ud800"])


def unknown() -> TaskSpec:
    return spec(handler="no.such.handler")


REFUSED = [
    (unknown, UnknownHandler),
    (too_large, TooLarge),
    (not_json, TypeError),
    (nul, ValueError),
    (bad_tag, ValueError),
]


@pytest.mark.parametrize(("bad", "error"), REFUSED)
def test_all_are_made_or_none(bad: Callable[[], TaskSpec], error: type[Exception]) -> None:
    with pytest.raises(error):
        lifecycle.enqueue([spec(), bad(), spec()])

    assert not Task.objects.exists()


@pytest.mark.parametrize(("bad", "error"), REFUSED)
def test_a_refusal_does_not_spoil_the_transaction_of_the_caller(
    bad: Callable[[], TaskSpec], error: type[Exception]
) -> None:
    with transaction.atomic(using=database()):
        [kept] = lifecycle.enqueue([spec()])
        with pytest.raises(error):
            lifecycle.enqueue([bad()])
        [also] = lifecycle.enqueue([spec()])

    assert set(Task.objects.values_list("pk", flat=True)) == {kept.id, also.id}


def test_it_is_part_of_the_transaction_of_the_caller() -> None:
    with pytest.raises(KeyError), transaction.atomic(using=database()):
        lifecycle.enqueue([spec()])
        raise KeyError

    assert not Task.objects.exists()


def test_arguments_and_payload_are_limited_together_in_bytes(settings: Settings) -> None:
    settings.TASKSERVICE = {"max_payload_bytes": 1024}
    half = "ä" * 254  # 508 bytes, with quotes and brackets 512

    lifecycle.enqueue([spec(args=[half], payload={"": "x" * 505})])
    with pytest.raises(TooLarge):
        lifecycle.enqueue([spec(args=[half], payload={"": "x" * 506})])
