"""What becomes of a task when an attempt ends: pure, so that it can be read and tested as a table."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple, assert_never

from tasks import errors, states
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
from tasks.states import Status, Transition, WaitingFor

FREE_RELEASES = 10  # hand-backs of started runs that cost no attempt
CRASH_BUDGET = 3  # seen crashes after which a task is poison


class Decision(NamedTuple):
    """The transition an outcome leads to, and every column that goes with it."""

    transition: Transition
    attempt: int
    crashes: int
    releases: int
    ready_at: datetime | None = None  # None keeps the row's, or clears it when the task waits
    run_at: datetime | None = None  # None keeps the row's
    waiting_for: WaitingFor | None = None
    finished_at: datetime | None = None
    result: str | None = None  # JSON text
    error: ErrorReport | None = None  # None keeps the last one, but for a success
    recorded: bool = False  # gets a row in ``attempts``


def decide(
    lease: Lease, outcome: Outcome, *, backoff: Backoff, rng: random.Random, now: datetime
) -> Decision:
    """Which transition an outcome leads to, and the columns that change with it.

    A task that somebody asked to cancel never goes back to pending: what would be
    BACK_OFF or RELEASE is STOP.
    """
    decision = _by_outcome(lease, outcome, backoff=backoff, rng=rng, now=now)
    if lease.cancel_requested and decision.transition.target == Status.PENDING:
        return _stopped(decision, now)
    return decision


def _by_outcome(
    lease: Lease, outcome: Outcome, *, backoff: Backoff, rng: random.Random, now: datetime
) -> Decision:
    match outcome:
        case Succeeded(result=result):
            return _ended(lease, states.COMPLETE, now=now, result=result)
        case Released(started=started) if not started or lease.releases < FREE_RELEASES:
            return _released(lease, started=started, now=now)
        case Released():
            return _overreleased(lease, now=now)
        case Cancelled():
            return _ended(lease, states.STOP, now=now, error=report_of(outcome), recorded=True)
        case Failed(retryable=False):
            return _ended(lease, states.FAIL, now=now, error=report_of(outcome), recorded=True)
        case Failed(retry_in=wait):
            wait = backoff.delay(lease.attempts_used, rng) if wait is None else wait
            return _again(lease, outcome, wait=wait, now=now)
        case TimedOut():
            return _again(lease, outcome, wait=backoff.delay(lease.attempts_used, rng), now=now)
        case Crashed():
            return _crashed(lease, outcome, wait=backoff.delay(lease.attempts_used, rng), now=now)
        case Lapsed():
            return _again(lease, outcome, wait=timedelta(0), now=now)
        case _:
            assert_never(outcome)


def report_of(outcome: Outcome) -> ErrorReport | None:
    """The error to keep of an outcome; None for one without."""
    match outcome:
        case Failed(error=error):
            return ErrorReport.bounded(  # whoever made it
                error.type, error.message, error.traceback, error.frame
            )
        case Crashed(how=how):
            return ErrorReport.of(errors.TaskCrashed, f"The process that ran it died: {how}.")
        case TimedOut(after=after, traceback=traceback, frame=frame):
            message = f"Ran longer than {after.total_seconds():g} s."
            return replace(ErrorReport.of(errors.TaskTimedOut, message, traceback), frame=frame)
        case Cancelled(traceback=traceback):
            return ErrorReport.of(errors.TaskCancelled, "Cancelled while it ran.", traceback)
        case Lapsed():
            return ErrorReport.of(errors.LeaseLapsed, "Its worker died, or was silent for a whole lease.")
        case Released(started=True):
            return ErrorReport.of(errors.TaskReleased, "Handed back unfinished by a worker that stopped.")
        case Released() | Succeeded():
            return None
        case _:
            assert_never(outcome)


def _ended(
    lease: Lease,
    transition: Transition,
    *,
    now: datetime,
    result: str | None = None,
    error: ErrorReport | None = None,
    recorded: bool = False,
) -> Decision:
    return Decision(
        transition=transition,
        attempt=lease.attempt,
        crashes=lease.crashes,
        releases=lease.releases,
        finished_at=now,
        result=result,
        error=error,
        recorded=recorded,
    )


def _again(lease: Lease, outcome: Outcome, *, wait: timedelta, now: datetime) -> Decision:
    """Another attempt after ``wait``, or the end when the budget has none left."""
    ended = _ended(lease, states.FAIL, now=now, error=report_of(outcome), recorded=True)
    if not lease.attempts_left:
        return ended
    again = ended._replace(transition=states.BACK_OFF, finished_at=None)
    if wait <= timedelta(0):
        return again._replace(ready_at=now)
    return again._replace(run_at=_later(now, wait), waiting_for=WaitingFor.TIME)


def _later(now: datetime, wait: timedelta) -> datetime:
    try:
        return now + wait
    except OverflowError:  # a handler asked for a retry beyond the year 9999
        return datetime.max.replace(tzinfo=now.tzinfo)


def _crashed(lease: Lease, outcome: Crashed, *, wait: timedelta, now: datetime) -> Decision:
    seen = lease._replace(crashes=lease.crashes + 1)
    if seen.crashes < CRASH_BUDGET:
        return _again(seen, outcome, wait=wait, now=now)
    poison = seen._replace(max_attempts=seen.attempts_used)  # no attempt is left to it
    limit = f"{outcome.how}. It has crashed {seen.crashes} times, which is the limit"
    return _again(poison, Crashed(limit), wait=wait, now=now)


def _released(lease: Lease, *, started: bool, now: datetime) -> Decision:
    return Decision(
        transition=states.RELEASE,
        attempt=lease.attempt - 1,
        crashes=lease.crashes,
        releases=lease.releases + started,
        ready_at=now if started else None,  # what never began keeps its place in the line
    )


def _overreleased(lease: Lease, *, now: datetime) -> Decision:
    """Shutdowns may not go on for ever: from the eleventh on, one uses up its attempt."""
    counted = lease._replace(releases=lease.releases + 1)
    decision = _again(counted, Released(started=True), wait=timedelta(0), now=now)
    if decision.transition is states.BACK_OFF:
        return decision._replace(transition=states.RELEASE)
    return decision


def _stopped(decision: Decision, now: datetime) -> Decision:
    return decision._replace(
        transition=states.STOP,
        ready_at=None,
        run_at=None,
        waiting_for=None,
        finished_at=now,
        error=decision.error or report_of(Cancelled()),
    )
