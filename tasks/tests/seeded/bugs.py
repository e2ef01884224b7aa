"""Mistakes that a task service can make, each with the rule that it breaks and what brings it to light."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from typing import Any

from django.db import transaction

from tasks import decide, lifecycle, statements
from tasks.api import creation, group_commit, problems
from tasks.api import reading as api_reading
from tasks.book import Book
from tasks.contract import Lease
from tasks.lifecycle import Settlement, intake
from tasks.models import Task, TaskQuerySet
from tasks.models.task import database
from tasks.states import CANCEL, Status, Transition
from tasks.worker import child, dispatcher
from tasks.worker.duties import Duties
from tasks.worker.hands import Hands

EACH = 10  # what goes wrong now and then: one of so many
BOTH = ("sqlite", "postgres")


@dataclass(frozen=True)
class Bug:
    plant: Callable[[], None]
    breaks: str  # the rule that must find it; others may as well
    profile: str  # of the chaos run that provokes it
    databases: tuple[str, ...] = ("sqlite",)


def put(place: Any, **instead: Any) -> None:
    """Replace parts of a class or a module."""
    for name, value in instead.items():
        assert hasattr(place, name), f"no {name!r} any more"
        setattr(place, name, value)


def claim_without_its_guard() -> None:
    """Takes what somebody else is running."""
    ready = "status IN ('pending', 'processing') AND ready_at IS NOT NULL"
    put(statements, _READY=ready)


def claim_without_its_lock() -> None:
    """Of two that look at the same moment both take it."""
    first_ready = statements._first_ready

    def slowly(postgres: bool, handlers: int) -> str:
        return f"SELECT first.* FROM ({first_ready(postgres, handlers)}) AS first, pg_sleep(0.02)"

    put(statements, _locking=lambda postgres: "")
    put(statements, _first_ready=slowly)


def settle_without_its_fence() -> None:
    for name in ("COMPLETE", "SETTLE", "EXTEND"):
        text = getattr(statements, name)
        put(statements, **{name: text.replace(" AND tasks.fence = v.f", "")})
    put(Hands, lose=lambda hands, leases: None)


def put_in_take(right: str, wrong: str) -> None:
    take = statements._take
    put(statements, _take=lambda postgres: take(postgres).replace(right, wrong))


def fence_not_raised() -> None:
    again = "fence = fence + CASE WHEN fence = 1 THEN 0 ELSE 1 END"
    put_in_take("fence = fence + 1", again)


def outcome_lost() -> None:
    """Forgotten, and taken for written."""
    complete, number = Book.complete, count(1)

    def forgetful(book: Book, rows: Sequence[Any], now: Any) -> list[bool]:
        kept = [row for row in rows if next(number) % EACH]
        held = dict(zip([row[:2] for row in kept], complete(book, kept, now) if kept else [], strict=True))
        return [held.get(row[:2], True) for row in rows]

    put(Book, complete=forgetful)


def attempt_not_counted() -> None:
    second = "attempt = attempt + CASE WHEN fence = 1 THEN 0 ELSE 1 END"
    put_in_take("attempt = attempt + 1", second)


def too_many_attempts() -> None:
    left = Lease.attempts_left.fget  # type: ignore[attr-defined]  # a property of a tuple's class
    one_more = property(lambda lease: left(lease) or int(lease.attempts_used == lease.max_attempts))
    put(Lease, attempts_left=one_more)


def backoff_ignored() -> None:
    again = decide._again

    def at_once(lease: Lease, outcome: Any, *, wait: timedelta, now: Any) -> decide.Decision:
        return again(lease, outcome, wait=timedelta(0), now=now)

    put(decide, _again=at_once)


def crashes_not_counted() -> None:
    put(decide, _crashed=decide._again)


def cancel_ignored() -> None:
    """Asked to stop, it runs on."""
    put(Hands, cancel=lambda hands, task_ids: None)


def cancel_lies() -> None:
    """Told that it is cancelled, and it is not."""
    move = TaskQuerySet.move

    def pretend(tasks: TaskQuerySet, transition: Transition, **changes: Any) -> int:
        return tasks.count() if transition is CANCEL else move(tasks, transition, **changes)

    put(TaskQuerySet, move=pretend)


def retry_lies() -> None:
    """Told that it was retried, and it was not."""
    put(lifecycle, retry=lambda ids, **how: len(ids))


def lease_never_renewed() -> None:
    put(Duties, extend=lambda duties, in_hand: None)


def dead_never_buried() -> None:
    put(Duties, reap=lambda duties, in_hand: Settlement())


def completed_opened_again() -> None:
    reap = Duties.reap

    def meddle(duties: Duties, in_hand: Sequence[Lease]) -> Settlement:
        done = Task.objects.using(database()).filter(status=Status.COMPLETED).values_list("pk", flat=True)[:1]
        with transaction.atomic(using=database()):
            again = Task.objects.using(database()).filter(pk__in=list(done))
            again.update(status=Status.PENDING, finished_at=None)
        return reap(duties, in_hand)

    put(Duties, reap=meddle)


def leases_dropped_at_the_end() -> None:
    """Told to stop, it goes, and says that all is well."""
    over = dispatcher.Dispatcher._over
    put(dispatcher.Dispatcher, _over=lambda it, now: it._ending.since is not None or over(it, now))
    put(dispatcher.Dispatcher, _all_settled=property(lambda it: it._ending.since is not None))


def acknowledged_before_the_commit() -> None:
    """And then the commit comes to nothing."""
    number = count(1)

    def hasty(asked: Sequence[Any], *, hurried: bool = False) -> Sequence[Any]:
        with transaction.atomic(using=database()):
            answers = creation.create(asked, hurried=hurried)
            if not next(number) % EACH:
                transaction.set_rollback(True, using=database())
        return answers

    put(group_commit.GroupCommit.__init__, __defaults__=(hasty,))


def key_not_honoured() -> None:
    put(lifecycle, reserve=lambda asked, **how: {})


def begun_before_its_time() -> None:
    enqueued = intake._enqueued

    def at_once(spec: Any, now: Any) -> Any:
        return replace(enqueued(spec, now), ready_at=now, waiting_for=None)

    put(intake, _enqueued=at_once)


def outage_not_foreseen() -> None:
    """500 instead of 503."""
    for module in (problems, group_commit, api_reading):
        put(module, is_outage=lambda error: False)


def not_back_after_the_database() -> None:
    put(dispatcher, RETRY_SECONDS=(30.0,))
    put(dispatcher, RETRY_DUTY_SECONDS=30.0)


def executor_orphaned() -> None:
    put(child, die_with_the_dispatcher=lambda: None)
    put(child, end=lambda: time.sleep(60))


BUGS = {
    bug.plant.__name__.replace("_", "-"): bug
    for bug in (
        Bug(claim_without_its_guard, "moves", "calm", BOTH),
        Bug(claim_without_its_lock, "moves", "calm", ("postgres",)),
        Bug(settle_without_its_fence, "late-writes", "pauses", BOTH),
        Bug(fence_not_raised, "fences", "calm"),
        Bug(outcome_lost, "outcomes-arrive", "calm", BOTH),
        Bug(attempt_not_counted, "every-claim-counts", "calm"),
        Bug(too_many_attempts, "max-attempts", "calm"),
        Bug(backoff_ignored, "backoff", "calm"),
        Bug(crashes_not_counted, "crashes", "calm"),
        Bug(cancel_ignored, "cancelled-while-running", "calm"),
        Bug(cancel_lies, "cancelled-for-good", "calm"),
        Bug(retry_lies, "retried", "calm"),
        Bug(lease_never_renewed, "leases-hold", "calm", BOTH),
        Bug(dead_never_buried, "leases-are-taken-back", "deaths", BOTH),
        Bug(completed_opened_again, "no-way-back", "calm"),
        Bug(leases_dropped_at_the_end, "clean-stops", "stops", BOTH),
        Bug(acknowledged_before_the_commit, "acknowledged", "calm", BOTH),
        Bug(key_not_honoured, "resent", "calm"),
        Bug(begun_before_its_time, "never-early", "calm"),
        Bug(outage_not_foreseen, "honest-answers", "outages", BOTH),
        Bug(not_back_after_the_database, "back-after-the-database", "outages", BOTH),
        Bug(executor_orphaned, "no-orphans", "deaths"),
    )
}
