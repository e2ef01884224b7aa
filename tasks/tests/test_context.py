"""What a handler that takes a context is told."""

from __future__ import annotations

import asyncio
from dataclasses import FrozenInstanceError
from uuid import uuid4

import pytest
from django.tasks import TaskResultStatus
from django.tasks.exceptions import TaskResultDoesNotExist
from django.utils import timezone

from tasks import lifecycle
from tasks.context import AnyResult, ServiceContext, context_of
from tasks.contract import Lease
from tasks.models import Task
from tasks.tests.rows import LeasedTask, claimant
from tasks.tests.shop import tasks as jobs

LEASE = Lease(task_id=uuid4(), handler="demo.echo", args="[]", payload="{}", attempt=4, fence=9)


def claimed(queue: str) -> Lease:
    [lease] = lifecycle.claim(
        claimant(queue, handlers=(jobs.who_am_i.module_path,)), limit=1, now=timezone.now()
    )
    return lease


def test_what_the_lease_knows_is_told_without_a_query() -> None:
    """A test without access to a database."""
    context = context_of(LEASE, jobs.who_am_i)

    assert (context.task_id, context.attempt, context.fence) == (str(LEASE.task_id), 4, 9)


def test_a_context_cannot_be_changed() -> None:
    context = context_of(LEASE, jobs.who_am_i)

    with pytest.raises(FrozenInstanceError):
        context.attempt = 1  # type: ignore[misc]  # what is tested


def test_showing_and_comparing_contexts_asks_nobody() -> None:
    context = ServiceContext(task_id="7", attempt=1, fence=2, load=pytest.fail)

    assert repr(context) == "ServiceContext(task_id='7', attempt=1, fence=2)"
    assert context == ServiceContext(task_id="7", attempt=1, fence=2, load=pytest.fail)


def test_what_a_context_does_not_have_is_an_attribute_error() -> None:
    context = ServiceContext(task_id="7", attempt=1, fence=2, load=pytest.fail)

    with pytest.raises(AttributeError, match="'atempt'"):
        _ = context.atempt


def test_the_result_is_loaded_once_when_it_is_first_read() -> None:
    loads: list[AnyResult] = []

    def load() -> AnyResult:
        loads.append(result)
        return result

    result: AnyResult = object()  # type: ignore[assignment]  # never looked into
    context = ServiceContext(task_id="7", attempt=1, fence=2, load=load)

    assert loads == []
    assert context.task_result is context.task_result is result
    assert loads == [result]


@pytest.mark.django_db
def test_the_result_of_a_run_says_that_it_is_running() -> None:
    result = jobs.who_am_i.using(queue_name="of-a-context").enqueue()
    lease = claimed("of-a-context")

    context = context_of(lease, jobs.who_am_i)

    assert context.task_result.id == context.task_id == result.id
    assert context.task_result.status == TaskResultStatus.RUNNING
    assert context.task_result.attempts == context.attempt == 1


@pytest.mark.django_db(transaction=True)
def test_an_async_handler_reads_the_result_inside_its_loop() -> None:
    jobs.who_am_i.using(queue_name="of-a-context").enqueue()
    context = context_of(claimed("of-a-context"), jobs.who_am_i)

    async def handler() -> str:
        return str(context.task_result.id)

    assert asyncio.run(handler()) == context.task_id


def test_the_result_of_a_task_deleted_meanwhile_does_not_exist(leased_task: LeasedTask) -> None:
    context = context_of(leased_task(), jobs.who_am_i)
    Task.objects.all().delete()

    with pytest.raises(TaskResultDoesNotExist):
        _ = context.task_result
