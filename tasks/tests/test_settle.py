"""How attempts end: what was decided is what is written, under the fence or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from tasks import lifecycle
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
from tasks.lifecycle.settling import fingerprint_of
from tasks.models import Attempt, Task
from tasks.models.task import database
from tasks.states import FINISHED, Status, WaitingFor
from tasks.tests.rows import LeasedTask, MakeTask, Steal, claimant, row_of

HOUR = timedelta(hours=1)
BOOM = ErrorReport("builtins.ValueError", "boom", "Traceback …")

OUTCOMES: list[Outcome] = [
    Succeeded('{"a":["ä",1.5,null]}'),
    Failed(BOOM),
    Failed(BOOM, retry_in=timedelta(0)),
    Failed(BOOM, retryable=False),
    Crashed("killed by SIGSEGV"),
    TimedOut(after=timedelta(seconds=2), traceback="Traceback …"),
    Cancelled(),
    Lapsed(),
    Released(started=True),
    Released(started=False),
]
every_outcome = pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
LEASED = {  # before the claim
    "in the midst": {"attempt": 2, "attempts_before": 1, "max_attempts": 4, "crashes": 1, "releases": 3},
    "last attempt": {"attempt": 4, "max_attempts": 5},
    "poison, shut down often": {"crashes": 2, "releases": 10},
}


# --- what was decided is what is written


@pytest.mark.parametrize("cancelled", [False, True], ids=["", "cancel asked"])
@pytest.mark.parametrize("columns", LEASED.values(), ids=LEASED)
@every_outcome
def test_the_row_says_what_was_decided(
    leased_task: LeasedTask, outcome: Outcome, columns: dict[str, Any], cancelled: bool
) -> None:
    lease, now = leased_task(run_at=timezone.now() - HOUR, **columns), timezone.now()
    if cancelled:
        lifecycle.cancel([lease.task_id])
    before = row_of(lease)

    settlement = lifecycle.settle([(lease, outcome)], now=now)

    [(settled, came_to, decision)] = settlement.written
    waits = decision.waiting_for is not None
    assert (settled.key, came_to, settlement.lost) == (lease.key, outcome, [])
    assert row_of(lease) == before | {
        "status": decision.transition.target,
        "attempt": decision.attempt,
        "crashes": decision.crashes,
        "releases": decision.releases,
        "ready_at": None if waits else decision.ready_at or before["ready_at"],
        "run_at": decision.run_at or before["run_at"],
        "waiting_for": decision.waiting_for,
        "finished_at": decision.finished_at,
        "lease_expires_at": None,
        "started_at": before["started_at"] if decision.attempt else None,
        "result": None if decision.result is None else json.loads(decision.result),
        "error": decision.error
        and {"type": decision.error.type, "message": decision.error.message, "attempt": lease.attempt},
        "fingerprint": fingerprint_of(lease, decision),  # None: there was none before
    }


@pytest.mark.parametrize("columns", LEASED.values(), ids=LEASED)
@every_outcome
def test_an_attempt_that_used_its_number_and_did_not_succeed_has_a_row(
    leased_task: LeasedTask, outcome: Outcome, columns: dict[str, Any]
) -> None:
    lease, now = leased_task(**columns), timezone.now()

    [(_, _, decision)] = lifecycle.settle([(lease, outcome)], now=now).written

    assert Attempt.objects.count() == decision.recorded
    for attempt in Attempt.objects.all():
        assert (attempt.task_id, attempt.number, attempt.fence) == (lease.task_id, lease.attempt, lease.fence)
        assert attempt.outcome == Attempt.OUTCOME_OF[type(outcome)]
        assert (attempt.worker_id, attempt.started_at, attempt.ended_at) == (
            lease.worker_id,
            lease.claimed_at,
            now,
        )
        assert decision.error is not None
        assert attempt.error_type == decision.error.type
        assert attempt.message == decision.error.message
        assert attempt.traceback == decision.error.traceback


def test_a_success_after_failures_leaves_the_history_and_no_error(leased_task: LeasedTask) -> None:
    lease = leased_task(queue="a", max_attempts=2)
    lifecycle.settle([(lease, Failed(BOOM, retry_in=timedelta(0)))], now=timezone.now())
    [second] = lifecycle.claim(claimant("a"), limit=1, now=timezone.now())

    lifecycle.settle([(second, Succeeded("1"))], now=timezone.now())

    task = Task.objects.get()
    assert (task.status, task.result, task.error, task.attempt) == (Status.COMPLETED, 1, None, 2)
    assert [attempt.number for attempt in task.attempts.all()] == [1]


def test_an_error_stays_until_something_else_is_to_be_said(leased_task: LeasedTask) -> None:
    lease = leased_task(queue="a")
    lifecycle.settle([(lease, Failed(BOOM, retry_in=timedelta(0)))], now=timezone.now())
    [second] = lifecycle.claim(claimant("a"), limit=1, now=timezone.now())

    lifecycle.settle([(second, Released(started=True))], now=timezone.now())

    assert Task.objects.get().error == {"type": BOOM.type, "message": BOOM.message, "attempt": 1}


def test_a_wait_is_kept_until_it_is_over(leased_task: LeasedTask) -> None:
    lease, now = leased_task(queue="a"), timezone.now()

    lifecycle.settle([(lease, Failed(BOOM, retry_in=HOUR))], now=now)

    task = Task.objects.get()
    assert (task.waiting_for, task.run_at, task.ready_at) == (WaitingFor.TIME, now + HOUR, None)
    assert lifecycle.claim(claimant("a"), limit=1, now=now + HOUR - timedelta(microseconds=1)) == []
    assert len(lifecycle.claim(claimant("a"), limit=1, now=now + HOUR)) == 1


def test_the_handler_names_its_backoff(leased_task: LeasedTask) -> None:
    lease, now = leased_task(), timezone.now()

    lifecycle.settle([(lease, Failed(BOOM))], now=now)

    run_at = row_of(lease)["run_at"]
    assert now + timedelta(seconds=1) <= run_at <= now + timedelta(seconds=2)


# --- a stale fence is refused in every write

Write = Callable[[Lease, datetime], Any]


def settle_as(outcome: Outcome) -> Write:
    return lambda lease, now: lifecycle.settle([(lease, outcome)], now=now).written


def settle_singly_as(outcome: Outcome) -> Write:
    return lambda lease, now: lifecycle.settle_singly([(lease, outcome)], now=now).written


WRITES: dict[str, Write] = {
    **{f"settle {outcome}": settle_as(outcome) for outcome in OUTCOMES},
    **{f"singly {outcome}": settle_singly_as(outcome) for outcome in OUTCOMES},
    "extend": lambda lease, now: lifecycle.extend([lease], by=HOUR, now=now).held,
    "release": lambda lease, now: lifecycle.release([lease], now=now),
}


def taken_by_another(lease: Lease, steal: Steal) -> None:
    steal(lease)


def reaped(lease: Lease, steal: Steal) -> None:
    lifecycle.reap(now=timezone.now() + HOUR)


def reaped_and_taken_by_another(lease: Lease, steal: Steal) -> None:
    lifecycle.reap(now=timezone.now() + HOUR)
    lifecycle.claim(claimant(lease.queue, worker_id="host:2:thief"), limit=1, now=timezone.now())


def completed(lease: Lease, steal: Steal) -> None:
    lifecycle.settle([(lease, Succeeded('"the first"'))], now=timezone.now())


def completed_and_retried(lease: Lease, steal: Steal) -> None:
    completed(lease, steal)
    lifecycle.retry([lease.task_id])


def handed_back(lease: Lease, steal: Steal) -> None:
    lifecycle.release([lease], now=timezone.now())


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize(
    "lose",
    [taken_by_another, reaped, reaped_and_taken_by_another, completed, completed_and_retried, handed_back],
    ids=lambda lose: lose.__name__,
)
def test_a_lost_lease_writes_nothing(
    leased_task: LeasedTask, steal: Steal, write: Write, lose: Callable[[Lease, Steal], None]
) -> None:
    lease = leased_task()
    lose(lease, steal)
    before, history = row_of(lease), list(Attempt.objects.values())

    assert not write(lease, timezone.now())

    assert row_of(lease) == before
    assert list(Attempt.objects.values()) == history


@every_outcome
def test_what_had_lost_its_lease_is_named(leased_task: LeasedTask, steal: Steal, outcome: Outcome) -> None:
    mine, stale = leased_task(), leased_task()
    steal(stale)

    settlement = lifecycle.settle([(stale, outcome), (mine, outcome)], now=timezone.now())

    assert [lease.key for lease, _, _ in settlement.written] == [mine.key]
    assert settlement.lost == [stale]


@every_outcome
def test_a_stale_outcome_is_told_from_the_new_one_in_the_same_batch(
    leased_task: LeasedTask, steal: Steal, outcome: Outcome
) -> None:
    old = leased_task()
    new = steal(old)

    settlement = lifecycle.settle([(old, outcome), (new, outcome)], now=timezone.now())

    assert [lease.key for lease, _, _ in settlement.written] == [new.key]
    assert settlement.lost == [old]
    assert not Attempt.objects.filter(fence=old.fence).exists()


@every_outcome
def test_of_two_outcomes_of_one_lease_the_first_counts(leased_task: LeasedTask, outcome: Outcome) -> None:
    lease = leased_task()

    settlement = lifecycle.settle([(lease, outcome), (lease, Succeeded('"second"'))], now=timezone.now())

    [(_, came_to, _)] = settlement.written
    assert came_to == outcome
    assert row_of(lease)["result"] != "second"


def test_a_lapsed_lease_that_nobody_took_still_settles(leased_task: LeasedTask) -> None:
    lease = leased_task()

    settlement = lifecycle.settle([(lease, Succeeded())], now=timezone.now() + 24 * HOUR)

    assert len(settlement.written) == 1


# --- batches


def lease_many(make_task: MakeTask, count: int) -> list[Lease]:
    now = timezone.now()
    rows = [Task(handler="demo.echo", created_at=now, ready_at=now, queue="many") for _ in range(count)]
    Task.objects.bulk_create(rows)
    return lifecycle.claim(claimant("many"), limit=count, now=timezone.now())


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 600])
def test_a_batch_may_be_larger_than_a_statement(make_task: MakeTask, count: int) -> None:
    leases = lease_many(make_task, count)

    outcomes = [(lease, Succeeded(json.dumps(lease.task_id.hex))) for lease in leases]
    settlement = lifecycle.settle(outcomes, now=timezone.now())

    assert len(settlement.written) == count
    assert all(task.result == task.pk.hex for task in Task.objects.all())
    assert Task.objects.filter(status=Status.COMPLETED).count() == count


@pytest.mark.parametrize("count", [257, 600])
def test_so_may_one_of_failures(make_task: MakeTask, count: int) -> None:
    leases = lease_many(make_task, count)

    settlement = lifecycle.settle([(lease, Failed(BOOM)) for lease in leases], now=timezone.now())

    assert len(settlement.written) == count
    assert Task.objects.filter(waiting_for=WaitingFor.TIME).count() == count
    assert Attempt.objects.count() == count


def test_each_task_of_a_mixed_batch_gets_its_own(make_task: MakeTask, steal: Steal) -> None:
    leases = lease_many(make_task, 40)
    outcomes = [(lease, OUTCOMES[number % len(OUTCOMES)]) for number, lease in enumerate(leases)]
    stale = leases[::7]
    for lease in stale:
        steal(lease)

    settlement = lifecycle.settle(outcomes, now=timezone.now())

    wanted = {lease.key: outcome for lease, outcome in outcomes}
    assert {lease.key for lease in settlement.lost} == {lease.key for lease in stale}
    for lease, outcome, decision in settlement.written:
        assert outcome == wanted[lease.key]
        task = Task.objects.get(pk=lease.task_id)
        assert (task.status, task.attempt) == (decision.transition.target, decision.attempt)


def test_settling_nothing_is_nothing(db: None) -> None:
    settlement = lifecycle.settle([], now=timezone.now())

    assert (list(settlement.written), list(settlement.lost)) == ([], [])


# --- what no database takes

UNSTORABLE = {
    "no JSON": Succeeded("no JSON"),
    "NaN": Succeeded("[NaN]"),
    "empty": Succeeded(""),
    "lone surrogate": Succeeded('"\ud800"'),
    "NUL": Succeeded('"\0"'),
}
unstorable = pytest.mark.parametrize("outcome", UNSTORABLE.values(), ids=UNSTORABLE)


@unstorable
def test_one_bad_value_refuses_the_batch_and_nothing_is_written(
    leased_task: LeasedTask, outcome: Outcome
) -> None:
    good, bad = leased_task(), leased_task()

    with pytest.raises(lifecycle.REFUSED), transaction.atomic(using=database()):
        lifecycle.settle([(good, Succeeded()), (bad, outcome)], now=timezone.now())

    assert set(Task.objects.values_list("status", flat=True)) == {Status.PROCESSING}


@unstorable
def test_singly_the_bad_one_fails_for_good_and_the_others_are_written(
    leased_task: LeasedTask, steal: Steal, outcome: Outcome
) -> None:
    good, bad, failed, stale = leased_task(), leased_task(), leased_task(), leased_task()
    steal(stale)

    settlement = lifecycle.settle_singly(
        [(stale, outcome), (bad, outcome), (good, Succeeded("1")), (failed, Failed(BOOM))], now=timezone.now()
    )

    assert row_of(good)["status"] == Status.COMPLETED
    assert row_of(failed)["status"] == Status.PENDING
    assert row_of(bad)["status"] == Status.FAILED
    assert row_of(bad)["error"]["type"] == "tasks.errors.UnstorableResult"
    assert {lease.key for lease, _, _ in settlement.written} == {good.key, bad.key, failed.key}
    assert settlement.lost == [stale]


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "x" * 1_000_000], ids=["NUL", "surrogate", "long"])
def test_no_error_text_can_refuse_a_batch(leased_task: LeasedTask, text: str) -> None:
    report = ErrorReport(text, text, text)
    outcomes: list[Outcome] = [
        Failed(report),
        Failed(report, retryable=False),
        Crashed(text),
        TimedOut(HOUR, text),
        Cancelled(text),
    ]
    leases = [leased_task() for _ in outcomes]

    settlement = lifecycle.settle(zip(leases, outcomes, strict=True), now=timezone.now())

    assert len(settlement.written) == len(outcomes)
    assert Attempt.objects.count() == len(outcomes)


# --- a wish to cancel


@every_outcome
def test_a_task_that_was_to_be_cancelled_ends(leased_task: LeasedTask, outcome: Outcome) -> None:
    lease = leased_task()
    lifecycle.cancel([lease.task_id])

    lifecycle.settle([(lease, outcome)], now=timezone.now())

    assert row_of(lease)["status"] in FINISHED


def test_the_row_says_whether_to_cancel_not_the_lease(leased_task: LeasedTask) -> None:
    lease = leased_task()._replace(cancel_requested=True)

    lifecycle.settle([(lease, Failed(BOOM))], now=timezone.now())

    assert row_of(lease)["status"] == Status.PENDING
