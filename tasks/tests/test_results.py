"""What ``task_started`` and ``task_finished`` tell, and to whom."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.dispatch import Signal
from django.tasks import TaskResultStatus
from django.tasks.signals import log_task_started, task_finished, task_started

from tasks.backend import DatabaseBackend
from tasks.backoff import Backoff
from tasks.contract import (
    Cancelled,
    ErrorReport,
    Failed,
    Lease,
    Outcome,
    Released,
    Succeeded,
    TimedOut,
)
from tasks.decide import decide
from tasks.errors import TaskCancelled, TaskTimedOut
from tasks.ids import new_task_id
from tasks.results import finished_result, running_result
from tasks.tests.shop import tasks as jobs
from tasks.worker import telling

CLAIMED_AT = datetime(2026, 1, 12, 1, 37, 19, tzinfo=UTC)
ENDED_AT = CLAIMED_AT + timedelta(seconds=3)
LAST = {"attempt": 5, "max_attempts": 5}
NO = Failed(ErrorReport("builtins.ValueError", "no", "Traceback …"))


def lease(**fields: Any) -> Lease:
    given = {
        "task_id": new_task_id(),
        "handler": jobs.double.handler,
        "fence": 1,
        "args": "[21]",
        "payload": "{}",
        "attempt": 1,
        "worker_id": "host:1:worker",
        "claimed_at": CLAIMED_AT,
    }
    return Lease(**{**given, **fields})


def finished(held: Lease, outcome: Outcome) -> Any:
    decision = decide(held, outcome, backoff=Backoff(), rng=random.Random(1), now=ENDED_AT)
    return finished_result(held, jobs.double, [21], {}, decision)


@pytest.fixture
def hear() -> Iterator[Callable[[Signal], list[Any]]]:
    """Listen to a signal until the test ends: a list of (sender, result), which grows."""
    connected: list[tuple[Signal, Callable[..., None]]] = []

    def listen(signal: Signal) -> list[Any]:
        heard: list[Any] = []

        def receiver(sender: Any, task_result: Any, **kwargs: Any) -> None:
            heard.append((sender, task_result))

        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))
        return heard

    yield listen
    for signal, receiver in connected:
        signal.disconnect(receiver)


# -- results from leases


def test_a_run_that_begins_is_told_by_its_lease_without_a_query() -> None:
    """A test without access to a database."""
    held = lease()

    result = running_result(held, jobs.double, [21], {"x": 1})

    assert (result.id, result.status) == (str(held.task_id), TaskResultStatus.RUNNING)
    assert (result.args, result.kwargs) == ([21], {"x": 1})
    assert (result.task, result.backend) == (jobs.double, "default")
    assert (result.attempts, result.worker_ids) == (1, ["host:1:worker"])
    assert result.started_at == result.last_attempted_at == CLAIMED_AT
    assert result.finished_at is None


def test_it_was_enqueued_when_its_id_was_made() -> None:
    before = datetime.now(UTC)

    enqueued_at = running_result(lease(), jobs.double, [], {}).enqueued_at

    assert enqueued_at is not None
    assert before - timedelta(milliseconds=1) <= enqueued_at <= datetime.now(UTC)
    assert running_result(lease(task_id=uuid4()), jobs.double, [], {}).enqueued_at is None


def test_a_later_attempt_counts_those_before_it() -> None:
    result = running_result(lease(attempt=3), jobs.double, [], {})

    assert (result.attempts, result.worker_ids) == (3, ["", "", "host:1:worker"])
    assert (result.started_at, result.last_attempted_at) == (None, CLAIMED_AT)


def test_a_success_has_its_value_as_the_database_will_have_it() -> None:
    result = finished(lease(), Succeeded('{"a": [1, 2]}'))

    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, {"a": [1, 2]})
    assert (result.finished_at, result.errors) == (ENDED_AT, [])


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (NO, ValueError),
        (TimedOut(timedelta(seconds=3)), TaskTimedOut),
        (Cancelled("Traceback …"), TaskCancelled),
    ],
    ids=repr,
)
def test_an_end_without_success_has_the_error_of_this_attempt(
    outcome: Outcome, error: type[BaseException]
) -> None:
    result = finished(lease(**LAST), outcome)

    assert result.status == TaskResultStatus.FAILED
    assert [found.exception_class for found in result.errors] == [error]
    assert all(found.traceback for found in result.errors)


# -- signals


def test_each_attempt_that_begins_is_told_by_the_backends_class(hear: Any) -> None:
    heard = hear(task_started)

    telling.started(lease(), jobs.double, [21], {})
    telling.started(lease(attempt=2), jobs.double, [21], {})

    assert [sender for sender, _ in heard] == [DatabaseBackend, DatabaseBackend]
    assert [result.attempts for _, result in heard] == [1, 2]


@pytest.mark.parametrize(
    ("held", "outcome", "told"),
    [
        (lease(), Succeeded(), True),
        (lease(), NO, False),  # another attempt follows
        (lease(**LAST), NO, True),
        (lease(), Failed(NO.error, retryable=False), True),
        (lease(), TimedOut(timedelta(1)), False),
        (lease(**LAST), TimedOut(timedelta(1)), True),
        (lease(), Cancelled(), True),
        (lease(), Released(started=True), False),
    ],
)
def test_an_end_is_told_when_no_attempt_follows(hear: Any, held: Lease, outcome: Outcome, told: bool) -> None:
    heard = hear(task_finished)

    telling.finished(held, jobs.double, [21], {}, outcome)

    assert [sender for sender, _ in heard] == [DatabaseBackend] * told


def test_a_receiver_that_raises_is_logged_and_changes_nothing(
    hear: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble(**kwargs: Any) -> None:
        raise RuntimeError("a receiver's own error")

    task_started.connect(stumble)
    heard = hear(task_started)
    try:
        telling.started(lease(), jobs.double, [21], {})
    finally:
        task_started.disconnect(stumble)

    assert len(heard) == 1
    assert "a receiver's own error" in caplog.text


def test_djangos_logger_tells_of_a_failure_with_its_traceback_where_it_is_set_to(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = lease(**LAST)

    try:
        raise ValueError("no")
    except ValueError:
        with caplog.at_level(logging.ERROR, "django.tasks"):
            telling.finished(held, jobs.double, [21], {}, NO)

    [record] = [record for record in caplog.records if record.name == "django.tasks"]
    assert record.levelno == logging.ERROR
    assert str(held.task_id) in record.getMessage()
    assert record.exc_info and record.exc_info[0] is ValueError


def test_djangos_logger_tells_of_successes_where_it_is_set_to(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "django.tasks"):
        telling.started(lease(), jobs.double, [21], {})
        telling.finished(lease(), jobs.double, [21], {}, Succeeded())

    assert [record.levelname for record in caplog.records if record.name == "django.tasks"] == [
        "INFO",
        "INFO",
    ]


def test_a_receiver_is_heard_when_djangos_own_was_disconnected(hear: Any) -> None:
    assert task_started.disconnect(log_task_started)
    try:
        heard = hear(task_started)

        telling.started(lease(), jobs.double, [21], {})
    finally:
        task_started.connect(log_task_started)

    assert len(heard) == 1


def test_no_result_is_built_when_nobody_would_hear_of_it() -> None:
    """The lease is one that no result could be built from."""
    nothing: Any = None

    telling.started(nothing, jobs.double, [], {})
    telling.finished(nothing, jobs.double, [], {}, Succeeded())
