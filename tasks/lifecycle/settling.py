"""How attempts end: what they came to is decided by ``decide`` and written under the fence."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DataError, IntegrityError, transaction
from django.db.models import Q

from tasks.book import Book
from tasks.contract import ErrorReport, Failed, Lapsed, Lease, LeaseKey, Outcome, Released, Succeeded
from tasks.decide import Decision, decide
from tasks.errors import TaskCancelled, UnstorableResult
from tasks.fingerprint import fingerprint
from tasks.lifecycle.again import again
from tasks.models import Attempt, Task
from tasks.models.task import database
from tasks.registry import backoff_of
from tasks.statements import RECORDED, SETTLED
from tasks.states import Status
from tasks.storable import to_json

_rng = random.Random()  # noqa: S311 - jitter, not secrecy

# What databases and their drivers say of a value: SQLite's checks refuse bad JSON as an IntegrityError,
# and text that is no UTF-8 or a number that is too large does not even reach a database.
REFUSED = (DataError, IntegrityError, UnicodeError, OverflowError)

_CANCELLED = ErrorReport.of(TaskCancelled, "Cancelled while it ran.")

Ended = tuple[Lease, Outcome, Decision]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a batch of outcomes."""

    written: Sequence[Ended] = ()
    lost: Sequence[Lease] = ()  # somebody else has the task, or nobody: nothing was written


def settle(outcomes: Iterable[tuple[Lease, Outcome]], *, now: datetime) -> Settlement:
    """Record what attempts came to and end their leases, where the fence still holds.

    Of two outcomes of one lease the first counts. Raises one of ``REFUSED`` when the database
    refuses a value; nothing was written then, and ``settle_singly`` finds out which.
    """
    successes, others = [], []
    for lease, outcome in _first_of_each(outcomes):
        if isinstance(outcome, Succeeded):
            successes.append((lease, outcome))
        else:
            others.append((lease, outcome))
    alias = database()
    book = Book(alias)
    with transaction.atomic(using=alias, savepoint=False):
        completed, ended = _complete(book, successes, now), _end(book, others, now)
    return Settlement([*completed.written, *ended.written], [*completed.lost, *ended.lost])


def _first_of_each(outcomes: Iterable[tuple[Lease, Outcome]]) -> Iterable[tuple[Lease, Outcome]]:
    first: dict[tuple[int, int], tuple[Lease, Outcome]] = {}
    for lease, outcome in outcomes:
        first.setdefault((lease.task_id.int, lease.fence), (lease, outcome))  # a UUID's hash is slow
    return first.values()


def settle_singly(outcomes: Iterable[tuple[Lease, Outcome]], *, now: datetime) -> Settlement:
    """As ``settle``, but an outcome that the database refuses fails its own task alone, and for good."""
    parts = [_settle_one(lease, outcome, now) for lease, outcome in outcomes]
    return Settlement(
        [ended for part in parts for ended in part.written], [lease for part in parts for lease in part.lost]
    )


def _settle_one(lease: Lease, outcome: Outcome, now: datetime) -> Settlement:
    try:
        with transaction.atomic(using=database()):
            return settle([(lease, outcome)], now=now)
    except REFUSED:
        refused = ErrorReport.of(UnstorableResult, "The database refused to store what this attempt came to.")
        return settle([(lease, Failed(refused, retryable=False))], now=now)


@again
def reap(
    *,
    limit: int = 100,
    now: datetime,
    spared: Collection[UUID] = (),
    dead_workers: Collection[str] = (),
    begun_by: Callable[[str], Collection[LeaseKey] | None] = lambda worker_id: None,
) -> Settlement:
    """Take back tasks whose lease lapsed, and all that the dead workers held.

    ``spared``: what the caller has in hand itself, and will extend or settle. ``begun_by``: which
    leases a worker has begun, when that is known; its others cost no attempt.
    Never waits for rows that somebody else is writing.
    """
    alias = database()
    with transaction.atomic(using=alias, savepoint=False):
        lapsed = (
            Task.objects.using(alias)
            .select_for_update(skip_locked=True)
            .filter(Q(lease_expires_at__lte=now) | Q(worker_id__in=dead_workers), status=Status.PROCESSING)
            .exclude(pk__in=spared)
            .defer("args", "payload", "result")  # large, and for a handler alone
            .order_by("lease_expires_at")[:limit]
        )
        ended = [(_lease_of(task), _end_of(task, begun_by(task.worker_id))) for task in lapsed]
        return settle(ended, now=now)


def _end_of(task: Task, begun: Collection[LeaseKey] | None) -> Outcome:
    if begun is None or (task.id, task.fence) in begun:
        return Lapsed()
    return Released(started=False)


def _lease_of(task: Task) -> Lease:
    """The lease that a row's last claim gave out; without what only a handler would want."""
    return Lease(
        task_id=task.id,
        fence=task.fence,
        handler=task.handler,
        args="[]",
        payload="{}",
        attempt=task.attempt,
        attempts_before=task.attempts_before,
        max_attempts=task.max_attempts,
        crashes=task.crashes,
        releases=task.releases,
        timeout=None if task.timeout_seconds is None else timedelta(seconds=task.timeout_seconds),
        worker_id=task.worker_id,
        claimed_at=task.attempted_at,
        queue=task.queue,
    )


def _complete(book: Book, successes: Sequence[tuple[Lease, Succeeded]], now: datetime) -> Settlement:
    """The usual case, with a statement of its own: fewer columns, and no row to lock and read first."""
    if not successes:
        return Settlement()
    ended = [_decided(lease, outcome, now) for lease, outcome in successes]
    held = book.complete([(book.id(lease.task_id), lease.fence, how.result) for lease, _, how in ended], now)
    return _settlement(ended, held)


def _settlement(ended: Sequence[Ended], held: Sequence[bool]) -> Settlement:
    if all(held):
        return Settlement(ended)
    return Settlement(
        [entry for entry, was_held in zip(ended, held, strict=True) if was_held],
        [entry[0] for entry, was_held in zip(ended, held, strict=True) if not was_held],
    )


def _end(book: Book, outcomes: Sequence[tuple[Lease, Outcome]], now: datetime) -> Settlement:
    """All that is not a success: what the row says of a wish to cancel decides with the outcome."""
    if not outcomes:
        return Settlement()
    cancels = book.lock([lease.key for lease, _ in outcomes])
    ended = [
        _decided_locked(lease, outcome, cancels[lease.key], now)
        for lease, outcome in sorted(outcomes, key=lambda pair: pair[0].key)  # the order of locks
        if lease.key in cancels
    ]
    settlement = _settlement(ended, book.settle([_settled_row(book, lease, how) for lease, _, how in ended]))
    recorded = [_attempt_row(book, *entry, now) for entry in settlement.written if entry[2].recorded]
    if recorded:
        book.record(recorded)
    gone = [lease for lease, _ in outcomes if lease.key not in cancels]
    return Settlement(settlement.written, [*settlement.lost, *gone])


def _decided(lease: Lease, outcome: Outcome, now: datetime) -> Ended:
    decision = decide(lease, outcome, backoff=backoff_of(lease.handler), rng=_rng, now=now)
    return lease, outcome, decision


def _decided_locked(lease: Lease, outcome: Outcome, cancel: str | None, now: datetime) -> Ended:
    """``cancel``: why somebody asked for its end, None when nobody did."""
    lease, _, how = _decided(lease._replace(cancel_requested=cancel is not None), outcome, now)
    if cancel and how.error and how.error.type == _CANCELLED.type:
        how = how._replace(error=_CANCELLED.because(cancel, traceback=how.error.traceback))
    return lease, outcome, how


def _settled_row(book: Book, lease: Lease, how: Decision) -> tuple[Any, ...]:
    """In the order of ``SETTLED``."""
    values = {
        "id": book.id(lease.task_id),
        "fence": lease.fence,
        "status": how.transition.target.value,
        "attempt": how.attempt,
        "crashes": how.crashes,
        "releases": how.releases,
        "ready_at": book.time(how.ready_at),
        "run_at": book.time(how.run_at),
        "waiting_for": how.waiting_for,
        "finished_at": book.time(how.finished_at),
        "error": how.error and to_json(error_json(how.error, attempt=lease.attempt)),
        "fingerprint": fingerprint_of(lease, how),
    }
    return tuple(values[name] for name in SETTLED)


def fingerprint_of(lease: Lease, how: Decision) -> str | None:
    """Of an attempt that failed; None when it did not, or when somebody cancelled it."""
    if how.error is None or how.error.type == _CANCELLED.type:
        return None
    return fingerprint(lease.handler, how.error.type, how.error.frame)


def error_json(error: ErrorReport, *, attempt: int | None) -> dict[str, Any]:
    """What the row keeps of an error; the traceback is with the attempt."""
    return {"type": error.type, "message": error.message, "attempt": attempt}


def _attempt_row(book: Book, lease: Lease, outcome: Outcome, how: Decision, now: datetime) -> tuple[Any, ...]:
    """In the order of ``RECORDED``."""
    error = how.error or ErrorReport("", "")
    values = {
        "task_id": book.id(lease.task_id),
        "number": lease.attempt,
        "fence": lease.fence,
        "outcome": Attempt.OUTCOME_OF[type(outcome)],
        "worker_id": lease.worker_id,
        "started_at": book.time(lease.claimed_at),
        "ended_at": book.time(now),
        "error_type": error.type,
        "message": error.message,
        "traceback": error.traceback,
        "fingerprint": fingerprint_of(lease, how),
    }
    return tuple(values[name] for name in RECORDED)
