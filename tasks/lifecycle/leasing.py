"""Who may run a task: taking leases, keeping them, handing them back."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import transaction

from tasks.book import Book
from tasks.contract import Claimant, Lease, Released
from tasks.lifecycle.again import again
from tasks.lifecycle.settling import settle
from tasks.models.task import database
from tasks.statements import CLAIMED

PROMOTED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Extension:
    """What became of the leases that were to be prolonged."""

    held: frozenset[UUID]
    cancelled: frozenset[UUID]  # held, and somebody asked for their end
    lost: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is to claim, at one moment."""

    now: datetime
    due_at: datetime | None  # when the next waiting task is due; None: none waits
    ready: Sequence[str]  # queues that have ready tasks and are not paused

    @property
    def due_in(self) -> timedelta | None:
        """Negative when it is overdue."""
        return None if self.due_at is None else self.due_at - self.now

    @property
    def overdue(self) -> bool:
        return self.due_at is not None and self.due_at <= self.now

    def offers(self, claimant: Claimant) -> bool:
        """Whether a claim would find something to promote or to take."""
        return self.overdue or bool(_in_turn(claimant, self.ready))


def look() -> Sight:
    """Plain reads, no transaction of its own."""
    return Sight(*Book(database()).sight())


def promote(*, now: datetime) -> None:
    """Make ready what is due, a number at a time; part of a turn, so it begins no transaction of its own."""
    Book(database()).promote(now, limit=PROMOTED_AT_ONCE)


def claim(
    claimant: Claimant, *, limit: int, ahead: int = 0, now: datetime, sight: Sight | None = None
) -> list[Lease]:
    """Take up to ``limit`` ready tasks of the claimant's queues, and ``ahead`` more to wait behind others.

    Promotes first what is due. A task on its last attempt is never among those ahead: should
    the worker die before it begins, the attempt would be gone. ``sight``: of a moment ago, if there
    is one, so that nothing is asked twice.

    Order within a queue: priority (high first), then how long ready. The attempt
    counter goes up here, so a worker that dies has used the attempt. An empty list
    may also mean that others were faster; do not conclude the queue is empty.
    """
    alias = database()
    book = Book(alias)
    leases: list[Lease] = []
    with transaction.atomic(using=alias, savepoint=False):
        if sight is None or sight.overdue:
            promote(now=now)
            sight = look()
        for queue in _in_turn(claimant, sight.ready):
            if len(leases) < limit:
                leases += _claim_from(book, queue, claimant, limit=limit - len(leases), now=now)
            if limit <= len(leases) < limit + ahead:
                room = limit + ahead - len(leases)
                leases += _claim_from(book, queue, claimant, limit=room, ahead=True, now=now)
    return leases


def _in_turn(claimant: Claimant, ready: Sequence[str]) -> Sequence[str]:
    """The queues to claim from: as they were named, else beginning anywhere, so that none starves."""
    if not claimant.handlers:
        return ()
    if claimant.queues is not None:
        return [queue for queue in claimant.queues if queue in ready]
    start = random.randrange(len(ready)) if ready else 0  # noqa: S311 - fairness, not secrecy
    return [*ready[start:], *ready[:start]]


def _claim_from(
    book: Book, queue: str, claimant: Claimant, *, limit: int, ahead: bool = False, now: datetime
) -> list[Lease]:
    rows = book.claim(
        queue,
        claimant.handlers,
        worker_id=claimant.worker_id,
        now=now,
        lease_expires_at=now + claimant.lease_for,
        limit=limit,
        ahead=ahead,
    )
    return [_lease(row, claimant.worker_id, now) for row in rows]


def _lease(row: tuple[Any, ...], worker_id: str, now: datetime) -> Lease:
    """``row`` begins in the order of ``statements.CLAIMED``, which begins in the order of a Lease."""
    id_, *between, timeout, queue = row[: len(CLAIMED) - 1]
    task_id = id_ if isinstance(id_, UUID) else UUID(id_)
    ready_at, traceparent = row[len(CLAIMED) : len(CLAIMED) + 2]
    ends = (worker_id, now, queue, False, traceparent, _waited(ready_at, now))
    return Lease._make((task_id, *between, _timeout(timeout), *ends))


def _waited(ready_at: str, now: datetime) -> float:
    """Seconds. SQLite keeps times in UTC, and says so nowhere."""
    since = datetime.fromisoformat(ready_at)
    return max(0.0, (now - (since if since.tzinfo else since.replace(tzinfo=UTC))).total_seconds())


@lru_cache(maxsize=64)
def _timeout(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


@again
def extend(leases: Collection[Lease], *, by: timedelta, now: datetime) -> Extension:
    """Prolong leases until ``now + by``, those that are still held under their fence.

    Also one that lapsed and that nobody took. Whoever finds a lease among the lost must stop
    its handler and forget its outcome.
    """
    wanted = {lease.key: lease for lease in leases}
    alias = database()
    with transaction.atomic(using=alias, savepoint=False):
        held = Book(alias).extend(wanted, now + by)
    return Extension(
        held=frozenset(id_ for id_, _ in held),
        cancelled=frozenset(id_ for (id_, _), cancel in held.items() if cancel),
        lost=tuple(lease for key, lease in wanted.items() if key not in held),
    )


def asked_to_stop(worker_id: str) -> frozenset[UUID]:
    """The tasks of this worker that somebody wants to end while they run."""
    return frozenset(Book(database()).asked_to_stop(worker_id))


def release(leases: Iterable[Lease], *, now: datetime) -> int:
    """Hand back what was not begun; costs no attempt. Returns how many were still held."""
    return len(settle([(lease, Released(started=False)) for lease in leases], now=now).written)
