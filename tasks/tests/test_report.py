"""What an operator reads: one event for whatever is not an ordinary success, and a summary."""

from __future__ import annotations

import logging
import random
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from tasks.backoff import Backoff
from tasks.contract import (
    Cancelled,
    Crashed,
    ErrorReport,
    Failed,
    Lapsed,
    Lease,
    Outcome,
    Released,
    Succeeded,
    TimedOut,
)
from tasks.decide import decide
from tasks.lifecycle import Settlement
from tasks.worker.report import SUMMARY_SECONDS, Report

LEASE = Lease(
    task_id=uuid4(),
    fence=7,
    handler="mail.send",
    args="[]",
    payload='{"secret":"s3cret"}',
    attempt=1,
    queue="mail",
)
NO = Failed(ErrorReport("builtins.ValueError", "s3cret text", "s3cret traceback"))


def settlement(*pairs: tuple[Lease, Outcome], lost: list[Lease] | None = None) -> Settlement:
    now, rng = timezone.now(), random.Random(0)
    written = [
        (lease, outcome, decide(lease, outcome, backoff=Backoff(), rng=rng, now=now))
        for lease, outcome in pairs
    ]
    return Settlement(written, lost or [])


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (record.levelname, record.getMessage(), getattr(record, "fields", {})) for record in caplog.records
    ]


@pytest.fixture(autouse=True)
def _hear_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tasks")


def test_the_first_success_of_a_task_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    Report().settled(settlement((LEASE, Succeeded())))

    assert [level for level, _, _ in told(caplog)] == ["DEBUG"]


@pytest.mark.parametrize(
    ("lease", "outcome", "level", "transition"),
    [
        (LEASE._replace(attempt=2), Succeeded(), "INFO", "complete"),
        (LEASE, NO, "INFO", "back-off"),
        (LEASE._replace(attempt=5), NO, "WARNING", "fail"),
        (LEASE, Failed(NO.error, retryable=False), "WARNING", "fail"),
        (LEASE, TimedOut(timedelta(seconds=1)), "INFO", "back-off"),
        (LEASE, Crashed("exit code 3"), "INFO", "back-off"),
        (LEASE, Lapsed(), "INFO", "back-off"),
        (LEASE, Cancelled(), "INFO", "stop"),
        (LEASE, Released(started=True), "INFO", "release"),
    ],
)
def test_whatever_is_not_an_ordinary_success_is_one_line(
    caplog: pytest.LogCaptureFixture, lease: Lease, outcome: Outcome, level: str, transition: str
) -> None:
    Report().settled(settlement((lease, outcome)))

    [(found, name, fields)] = told(caplog)
    assert (found, name) == (level, "task.settled")
    assert fields["task_id"] == lease.task_id
    assert fields["transition"] == transition
    assert fields["outcome"] == type(outcome).__name__.lower()
    assert (fields["attempt"], fields["of"]) == (lease.attempt, 5)
    assert (fields["handler"], fields["queue"]) == ("mail.send", "mail")


def test_what_was_released_before_it_began_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """A recall is ordinary: it happens whenever a task turns out slow."""
    Report().settled(settlement((LEASE, Released(started=False))))

    assert [level for level, _, _ in told(caplog)] == ["DEBUG"]


def test_claims_are_told_at_debug_alone(caplog: pytest.LogCaptureFixture) -> None:
    Report().claimed([LEASE, LEASE])
    assert [(level, name) for level, name, _ in told(caplog)] == [("DEBUG", "task.claimed")] * 2

    caplog.clear()
    caplog.set_level(logging.INFO, "tasks")
    Report().claimed([LEASE])
    assert told(caplog) == []


def test_no_line_holds_a_payload_or_an_errors_text(caplog: pytest.LogCaptureFixture) -> None:
    Report().settled(settlement((LEASE, NO), lost=[LEASE]))

    assert "s3cret" not in str(told(caplog))


def test_attempts_are_counted_in_the_tasks_whole_history(caplog: pytest.LogCaptureFixture) -> None:
    second_budget = LEASE._replace(attempt=7, attempts_before=5)

    Report().settled(settlement((second_budget, NO)))

    [(_, _, fields)] = told(caplog)
    assert (fields["attempt"], fields["of"]) == (7, 10)


def test_a_lost_lease_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    Report().settled(settlement(lost=[LEASE]))

    [(level, name, fields)] = told(caplog)
    assert (level, name) == ("WARNING", "outcome.dropped")
    assert (fields["task_id"], fields["fence"]) == (LEASE.task_id, 7)


def test_the_summary_comes_every_ten_seconds_of_work(caplog: pytest.LogCaptureFixture) -> None:
    report = Report()
    began = report._since
    for _ in range(3):
        report.settled(settlement((LEASE, Succeeded())))
    report.settled(settlement((LEASE, NO)))
    caplog.clear()

    report.now_and_then(began + SUMMARY_SECONDS / 2)
    assert told(caplog) == []
    report.now_and_then(began + SUMMARY_SECONDS)

    [(level, name, fields)] = told(caplog)
    assert (level, name) == ("INFO", "worker.summary")
    assert fields == {"per_second": 0.4, "complete": 3, "back_off": 1}


def test_an_idle_worker_sums_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    report = Report()

    report.now_and_then(report._since + SUMMARY_SECONDS)
    report.now_and_then(report._since + SUMMARY_SECONDS)

    assert told(caplog) == []


def test_the_totals_are_those_of_all_summaries(caplog: pytest.LogCaptureFixture) -> None:
    report = Report()
    report.settled(settlement((LEASE, Succeeded())))
    report.now_and_then(report._since + SUMMARY_SECONDS)
    report.settled(settlement((LEASE, Succeeded()), (LEASE, NO)))

    assert report.total() == {"back_off": 1, "complete": 2}


def test_a_database_that_stays_away_is_told_thrice_and_then_every_tenth_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    report = Report()

    for failures in range(1, 41):
        report.database_failed("turn", ValueError("gone"), failures)

    assert [fields["failures"] for _, _, fields in told(caplog)] == [1, 2, 3, 10, 20, 30, 40]
