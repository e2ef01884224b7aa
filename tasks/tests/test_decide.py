"""What becomes of a task when an attempt ends: a table, and what holds for every line of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import states
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
from tasks.decide import CRASH_BUDGET, FREE_RELEASES, Decision, decide, report_of
from tasks.states import FINISHED, Status, Transition
from tasks.storable import to_json

NOW = datetime(2026, 1, 12, 1, 37, 19, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
BOOM = ErrorReport("builtins.ValueError", "boom", "Traceback …")


def lease(**fields: Any) -> Lease:
    given: dict[str, Any] = {"attempt": 1, "max_attempts": 5, **fields}
    return Lease(task_id=UUID(int=7), fence=3, handler="demo.echo", args="[]", payload="{}", **given)


def decided(held: Lease, outcome: Outcome, seed: int = 1) -> Decision:
    return decide(held, outcome, backoff=Backoff(), rng=random.Random(seed), now=NOW)


# --- the table

FIRST, LAST = {"attempt": 1}, {"attempt": 5}
SECOND_BUDGET, LAST_OF_SECOND = {"attempt": 6, "attempts_before": 5}, {"attempt": 10, "attempts_before": 5}
SHUT_DOWN_OFTEN = {"releases": FREE_RELEASES}
CRASHED_TWICE = {"crashes": CRASH_BUDGET - 1}
ASKED = {"cancel_requested": True}

WAITS, READY, KEPT, ENDED = "waits", "ready", "keeps its place in the line", "ended"
SUCCESS, FAILURE, FINAL = Succeeded('"done"'), Failed(BOOM), Failed(BOOM, retryable=False)
AT_ONCE, LATER = Failed(BOOM, retry_in=timedelta(0)), Failed(BOOM, retry_in=timedelta(hours=3))
CRASH, TIMEOUT, CANCELLED, LAPSED = (
    Crashed("killed by SIGSEGV"),
    TimedOut(after=300 * SECOND),
    Cancelled(),
    Lapsed(),
)
STOPPED, UNBEGUN = Released(started=True), Released(started=False)

# fmt: off
TABLE: list[tuple[dict[str, Any], Outcome, Transition, str, int, bool]] = [
    # lease                       outcome    transition       then    attempt  recorded
    (FIRST,                       SUCCESS,   states.COMPLETE, ENDED,   1, False),
    (LAST,                        SUCCESS,   states.COMPLETE, ENDED,   5, False),
    (FIRST | ASKED,               SUCCESS,   states.COMPLETE, ENDED,   1, False),  # its real outcome

    (FIRST,                       FAILURE,   states.BACK_OFF, WAITS,   1, True),
    (FIRST,                       AT_ONCE,   states.BACK_OFF, READY,   1, True),
    (FIRST,                       LATER,     states.BACK_OFF, WAITS,   1, True),
    (LAST,                        FAILURE,   states.FAIL,     ENDED,   5, True),
    (LAST,                        LATER,     states.FAIL,     ENDED,   5, True),
    (FIRST,                       FINAL,     states.FAIL,     ENDED,   1, True),
    (SECOND_BUDGET,               FAILURE,   states.BACK_OFF, WAITS,   6, True),
    (LAST_OF_SECOND,              FAILURE,   states.FAIL,     ENDED,  10, True),
    (FIRST | ASKED,               FAILURE,   states.STOP,     ENDED,   1, True),
    (LAST | ASKED,                FAILURE,   states.FAIL,     ENDED,   5, True),   # its real outcome
    (FIRST | ASKED,               FINAL,     states.FAIL,     ENDED,   1, True),

    (FIRST,                       TIMEOUT,   states.BACK_OFF, WAITS,   1, True),
    (LAST,                        TIMEOUT,   states.FAIL,     ENDED,   5, True),
    (FIRST | ASKED,               TIMEOUT,   states.STOP,     ENDED,   1, True),

    (FIRST,                       CRASH,     states.BACK_OFF, WAITS,   1, True),
    (LAST,                        CRASH,     states.FAIL,     ENDED,   5, True),
    (FIRST | CRASHED_TWICE,       CRASH,     states.FAIL,     ENDED,   1, True),   # poison
    (FIRST | ASKED,               CRASH,     states.STOP,     ENDED,   1, True),

    (FIRST,                       LAPSED,    states.BACK_OFF, READY,   1, True),
    (FIRST | CRASHED_TWICE,       LAPSED,    states.BACK_OFF, READY,   1, True),   # nobody saw a crash
    (LAST,                        LAPSED,    states.FAIL,     ENDED,   5, True),
    (FIRST | ASKED,               LAPSED,    states.STOP,     ENDED,   1, True),

    (FIRST,                       CANCELLED, states.STOP,     ENDED,   1, True),
    (FIRST | ASKED,               CANCELLED, states.STOP,     ENDED,   1, True),
    (LAST,                        CANCELLED, states.STOP,     ENDED,   5, True),

    (FIRST,                       UNBEGUN,   states.RELEASE,  KEPT,    0, False),
    (LAST,                        UNBEGUN,   states.RELEASE,  KEPT,    4, False),
    (FIRST | SHUT_DOWN_OFTEN,     UNBEGUN,   states.RELEASE,  KEPT,    0, False),  # it never ran
    (SECOND_BUDGET,               UNBEGUN,   states.RELEASE,  KEPT,    5, False),
    (FIRST | ASKED,               UNBEGUN,   states.STOP,     ENDED,   0, False),

    (FIRST,                       STOPPED,   states.RELEASE,  READY,   0, False),
    (LAST,                        STOPPED,   states.RELEASE,  READY,   4, False),
    (FIRST | SHUT_DOWN_OFTEN,     STOPPED,   states.RELEASE,  READY,   1, True),   # the eleventh costs
    (LAST | SHUT_DOWN_OFTEN,      STOPPED,   states.FAIL,     ENDED,   5, True),
    (FIRST | ASKED,               STOPPED,   states.STOP,     ENDED,   0, False),
]
# fmt: on


@pytest.mark.parametrize(("fields", "outcome", "transition", "then", "attempt", "recorded"), TABLE)
def test_each_outcome_leads_where_the_table_says(
    fields: dict[str, Any], outcome: Outcome, transition: Transition, then: str, attempt: int, recorded: bool
) -> None:
    decision = decided(lease(**fields), outcome)

    assert decision.transition is transition
    assert place(decision) == then
    assert decision.attempt == attempt
    assert decision.recorded is recorded


def place(decision: Decision) -> str:
    if decision.finished_at is not None:
        return ENDED
    if decision.waiting_for is not None:
        return WAITS
    return KEPT if decision.ready_at is None else READY


# --- what a line of the table does not say


def test_a_success_keeps_the_result_and_no_error() -> None:
    decision = decided(lease(), SUCCESS)

    assert (decision.result, decision.error, decision.finished_at) == ('"done"', None, NOW)


def test_a_failure_waits_for_the_backoff_of_its_number_in_the_budget() -> None:
    first = decided(lease(attempt=6, attempts_before=5), FAILURE).run_at
    third = decided(lease(attempt=8, attempts_before=5), FAILURE).run_at

    assert first is not None and NOW + SECOND <= first <= NOW + 2 * SECOND
    assert third is not None and NOW + 4 * SECOND <= third <= NOW + 8 * SECOND


@pytest.mark.parametrize("outcome", [CRASH, TIMEOUT], ids=["crash", "timeout"])
def test_a_crash_and_a_timeout_wait_for_it_too(outcome: Outcome) -> None:
    run_at = decided(lease(), outcome).run_at

    assert run_at is not None and NOW + SECOND <= run_at <= NOW + 2 * SECOND


def test_a_handler_may_name_the_wait_itself() -> None:
    assert decided(lease(), LATER).run_at == NOW + timedelta(hours=3)


def test_a_wait_beyond_the_calendar_ends_with_the_calendar() -> None:
    run_at = decided(lease(), Failed(BOOM, retry_in=timedelta.max)).run_at

    assert run_at == datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize("wait", [timedelta(seconds=-5), timedelta.min], ids=str)
def test_a_wait_below_zero_is_none(wait: timedelta) -> None:
    assert decided(lease(), Failed(BOOM, retry_in=wait)).ready_at == NOW


def test_only_seen_crashes_count_as_crashes() -> None:
    held = lease(crashes=1)

    assert decided(held, CRASH).crashes == 2
    for outcome in (FAILURE, TIMEOUT, LAPSED, STOPPED, UNBEGUN, SUCCESS, CANCELLED):
        assert decided(held, outcome).crashes == 1


def test_only_releases_of_what_had_begun_count_as_releases() -> None:
    held = lease(releases=4)

    assert decided(held, STOPPED).releases == 5
    for outcome in (FAILURE, TIMEOUT, LAPSED, CRASH, UNBEGUN, SUCCESS, CANCELLED):
        assert decided(held, outcome).releases == 4


@pytest.mark.parametrize(
    "outcome", [FAILURE, CRASH, TIMEOUT, CANCELLED, LAPSED], ids=lambda it: type(it).__name__
)
def test_what_went_wrong_is_told(outcome: Outcome) -> None:
    report = decided(lease(), outcome).error

    assert report is not None
    assert report == report_of(outcome)
    assert report.type and report.message


def test_a_cancelled_task_says_so_when_nothing_else_went_wrong() -> None:
    report = decided(lease(**ASKED), UNBEGUN).error

    assert report is not None
    assert report.type == "tasks.errors.TaskCancelled"


# --- what holds for every outcome and every lease

reports = st.builds(ErrorReport, st.text(), st.text(), st.text())
waits = st.none() | st.timedeltas()
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Succeeded),
    st.builds(Failed, reports, st.booleans(), waits),
    st.builds(Crashed, st.text()),
    st.builds(TimedOut, st.timedeltas(min_value=timedelta(0)), st.text()),
    st.builds(Cancelled, st.text()),
    st.builds(Lapsed),
    st.builds(Released, st.booleans()),
)


@st.composite
def leases(draw: st.DrawFn) -> Lease:
    before = draw(st.integers(0, 50))
    budget = draw(st.integers(1, 50))
    return lease(
        attempts_before=before,
        max_attempts=budget,
        attempt=before + draw(st.integers(1, budget)),
        crashes=draw(st.integers(0, CRASH_BUDGET - 1)),
        releases=draw(st.integers(0, 30)),
        cancel_requested=draw(st.booleans()),
    )


@given(leases(), outcomes, st.integers())
def test_every_decision_is_one_the_row_can_take(held: Lease, outcome: Outcome, seed: int) -> None:
    decision = decided(held, outcome, seed)

    target = decision.transition.target
    assert Status.PROCESSING in decision.transition.sources
    assert (target in FINISHED) == (decision.finished_at is not None)
    assert target == Status.PENDING or place(decision) == ENDED
    assert decision.ready_at is None or place(decision) == READY
    assert (decision.waiting_for is None) == (decision.run_at is None)
    assert (decision.result is not None) == (target == Status.COMPLETED)


@given(leases(), outcomes, st.integers())
def test_the_attempt_goes_back_by_one_at_most_and_never_below_its_budget(
    held: Lease, outcome: Outcome, seed: int
) -> None:
    decision = decided(held, outcome, seed)

    assert held.attempts_before <= decision.attempt <= held.attempt
    assert decision.attempt == held.attempt or isinstance(outcome, Released)


@given(leases(), outcomes, st.integers())
def test_no_task_goes_on_without_an_attempt_left(held: Lease, outcome: Outcome, seed: int) -> None:
    decision = decided(held, outcome, seed)

    if decision.transition.target == Status.PENDING:
        assert decision.attempt - held.attempts_before < held.max_attempts


@given(leases(), outcomes, st.integers())
def test_a_task_that_was_to_be_cancelled_never_goes_on(held: Lease, outcome: Outcome, seed: int) -> None:
    decision = decided(held._replace(cancel_requested=True), outcome, seed)

    assert decision.transition.target in FINISHED


@given(leases(), outcomes, st.integers())
def test_only_what_used_its_attempt_is_recorded_and_every_failure_is(
    held: Lease, outcome: Outcome, seed: int
) -> None:
    decision = decided(held, outcome, seed)

    used_up = decision.attempt == held.attempt
    assert decision.recorded == (used_up and not isinstance(outcome, Succeeded))
    assert not decision.recorded or decision.error is not None


@given(leases(), outcomes, st.integers())
def test_what_is_kept_of_an_error_can_always_be_stored(held: Lease, outcome: Outcome, seed: int) -> None:
    error = decided(held, outcome, seed).error

    if error is not None:
        to_json([error.type, error.message, error.traceback])


# --- whole lives


@dataclass
class Life:
    """A row as claim and settle would keep it."""

    max_attempts: int
    attempt: int = 0
    attempts_before: int = 0
    crashes: int = 0
    releases: int = 0
    cancel_requested: bool = False
    status: Status = Status.PENDING

    @property
    def goes_on(self) -> bool:
        return self.status == Status.PENDING

    def claim(self) -> Lease:
        self.attempt += 1
        columns = ("attempt", "attempts_before", "max_attempts", "crashes", "releases", "cancel_requested")
        return lease(**{name: getattr(self, name) for name in columns})

    def settle(self, decision: Decision) -> None:
        self.status = decision.transition.target
        self.attempt, self.crashes, self.releases = decision.attempt, decision.crashes, decision.releases

    def to_its_end(self, outcome: Callable[[], Outcome]) -> int:
        """How many runs that took."""
        runs = 0
        while self.goes_on:
            self.settle(decided(self.claim(), outcome()))
            runs += 1
        return runs

    def retry(self) -> None:
        self.status, self.attempts_before = Status.PENDING, self.attempt
        self.crashes = self.releases = 0
        self.cancel_requested = False


begun = outcomes.filter(lambda outcome: outcome != Released(started=False))


@given(st.integers(1, 6), st.data())
def test_no_life_has_more_runs_than_its_budget_and_the_free_hand_backs(
    budget: int, data: st.DataObject
) -> None:
    life = Life(budget)
    ended: list[Outcome] = []

    def next_outcome() -> Outcome:
        ended.append(data.draw(begun))
        return ended[-1]

    runs = life.to_its_end(next_outcome)

    assert runs <= budget + FREE_RELEASES
    assert sum(isinstance(outcome, Crashed) for outcome in ended) <= CRASH_BUDGET
    assert life.attempt <= budget


@given(st.integers(1, 6), st.integers(0, 50), st.data())
def test_runs_that_never_began_cost_nothing(budget: int, unbegun: int, data: st.DataObject) -> None:
    plain, disturbed = Life(budget), Life(budget)

    for outcome in data.draw(st.lists(begun, max_size=30)):
        if not plain.goes_on:
            break
        for _ in range(unbegun):
            disturbed.settle(decided(disturbed.claim(), UNBEGUN))
        plain.settle(decided(plain.claim(), outcome))
        disturbed.settle(decided(disturbed.claim(), outcome))

    assert disturbed == plain


@given(st.integers(1, 6), st.data())
def test_a_retry_gives_the_whole_budget_again_and_numbers_go_on(budget: int, data: st.DataObject) -> None:
    life = Life(budget)
    life.to_its_end(lambda: data.draw(begun))
    used = life.attempt

    life.retry()

    assert life.to_its_end(lambda: FAILURE) == budget
    assert life.attempt == used + budget


def test_a_poison_task_ends_after_three_crashes_whatever_its_budget() -> None:
    life = Life(max_attempts=1000)

    assert life.to_its_end(lambda: CRASH) == CRASH_BUDGET
    assert life.status == Status.FAILED


def test_a_poison_task_says_which_limit_ended_it() -> None:
    told = [decided(lease(crashes=crashes), CRASH).error for crashes in range(CRASH_BUDGET)]

    limit = [error is not None and "crashed 3 times, which is the limit" in error.message for error in told]
    assert limit == [False, False, True]
