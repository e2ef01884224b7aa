"""A book in memory: the verbs in plain Python, over the ``decide`` of the service."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import count
from uuid import UUID

from tasks.backoff import Backoff
from tasks.contract import Lapsed, Lease, Outcome, Released, Succeeded
from tasks.decide import Decision, decide
from tasks.errors import TaskCancelled, TaskExpired
from tasks.lifecycle import Cancellation, Extension, Settlement
from tasks.lifecycle.settling import Ended
from tasks.states import FINISHED, Status, WaitingFor
from tasks.tests.simulation.desk import BEGINNING, HANDLER, LEASE_FOR, QUEUES, BegunBy, Row, Wish

BACKOFF = Backoff()
REAPED_AT_ONCE = 100
PENDING, PROCESSING = Status.PENDING, Status.PROCESSING
IDS = [UUID(int=number) for number in range(1, 1000)]  # to make one takes as long as to claim it
CANCELLED = f"{TaskCancelled.__module__}.{TaskCancelled.__qualname__}"
EXPIRED = f"{TaskExpired.__module__}.{TaskExpired.__qualname__}"


class Memory:
    """Rows are replaced, never changed: what somebody has seen stays as it was."""

    def __init__(self, rng: random.Random) -> None:
        self.now = BEGINNING
        self.rng = rng
        self.paused: set[str] = set()
        self._rows: dict[UUID, Row] = {}
        self._numbers = count()

    def rows(self) -> Mapping[UUID, Row]:
        return self._rows.copy()

    # -- how tasks come to be

    def enqueue(self, wish: Wish) -> UUID:
        id_ = self.new_id()
        self._rows[id_] = self.row_of(wish, id_)
        return id_

    def new_id(self) -> UUID:
        return IDS[next(self._numbers)]

    def row_of(self, wish: Wish, id_: UUID) -> Row:
        row = Row(id_, wish.queue, wish.priority, wish.max_attempts, expires_at=wish.expires_at)
        return self.waiting_until(wish.run_at, row)

    def waiting_until(self, run_at: datetime | None, row: Row) -> Row:
        if run_at is not None and run_at > self.now:
            return row._replace(run_at=run_at, ready_at=None, waiting_for=WaitingFor.TIME)
        return row._replace(run_at=run_at, ready_at=self.now, waiting_for=None)

    # -- who may run them

    def claim(self, worker_id: str, *, limit: int, ahead: int = 0) -> list[Lease]:
        self._promote()
        leases: list[Lease] = []
        for queue in QUEUES:
            if len(leases) < limit:
                picked = self._first_ready(queue)[: limit - len(leases)]
                leases += [self.take(row, worker_id) for row in picked]
            if limit <= len(leases) < limit + ahead:
                room = limit + ahead - len(leases)
                head = self._first_ready(queue)[: 2 * room]
                more = [row for row in head if row.attempt - row.attempts_before + 1 < row.max_attempts]
                leases += [self.take(row, worker_id) for row in more[:room]]
        return leases

    def _promote(self) -> None:
        for row in list(self._rows.values()):
            if row.waiting_for == WaitingFor.TIME and self.is_due(row):
                self._rows[row.id] = row._replace(ready_at=row.run_at, waiting_for=None)

    def is_due(self, row: Row) -> bool:
        return row.run_at is not None and row.run_at <= self.now

    def _first_ready(self, queue: str) -> list[Row]:
        if queue in self.paused:
            return []
        return sorted([row for row in self._rows.values() if self._is_ready(row, queue)], key=_claim_order)

    def _is_ready(self, row: Row, queue: str) -> bool:
        ready = row.status is PENDING and row.ready_at is not None and row.queue == queue
        return ready and (row.expires_at is None or row.expires_at > self.now)

    def take(self, row: Row, worker_id: str) -> Lease:
        attempt, fence = row.attempt + 1, row.fence + 1
        self._rows[row.id] = row._replace(
            status=PROCESSING,
            attempt=attempt,
            fence=fence,
            lease_expires_at=self.now + LEASE_FOR,
            worker_id=worker_id,
        )
        return lease_of(self._rows[row.id])

    def extend(self, leases: Collection[Lease]) -> Extension:
        held, lost = [], []
        for lease in leases:
            if self.holds(lease):
                row = self._rows[lease.task_id]
                self._rows[row.id] = row._replace(lease_expires_at=self.now + LEASE_FOR)
                held.append(row)
            else:
                lost.append(lease)
        asked = frozenset([row.id for row in held if row.cancel_requested])
        return Extension(held=frozenset([row.id for row in held]), cancelled=asked, lost=tuple(lost))

    def holds(self, lease: Lease) -> bool:
        """Whether the row is still leased under this fence."""
        row = self._rows.get(lease.task_id)
        return row is not None and row.status is PROCESSING and row.fence == lease.fence

    def asked_to_stop(self, worker_id: str) -> Collection[UUID]:
        asked = (row for row in self._rows.values() if row.status is PROCESSING and row.cancel_requested)
        return [row.id for row in asked if row.worker_id == worker_id]

    # -- how attempts end

    def settle(self, outcomes: Sequence[tuple[Lease, Outcome]]) -> Settlement:
        first = {lease.key: (lease, outcome) for lease, outcome in reversed(outcomes)}
        ordered = sorted(first.values(), key=_settle_order)
        written: list[Ended] = []
        lost: list[Lease] = []
        for lease, outcome in ordered:
            if not self.holds(lease):
                lost.append(lease)
                continue
            row = self._rows[lease.task_id]
            how = self.decide(row, lease, outcome)
            self.write(row, how)
            written.append((lease, outcome, how))
        return Settlement(written, lost)

    def decide(self, row: Row, lease: Lease, outcome: Outcome) -> Decision:
        if not isinstance(outcome, Succeeded):
            lease = lease._replace(cancel_requested=row.cancel_requested)
        return decide(lease, outcome, backoff=BACKOFF, rng=self.rng, now=self.now)

    def write(self, row: Row, how: Decision) -> None:
        completed = how.transition.target is Status.COMPLETED
        error_type = how.error.type if how.error else row.error_type
        self._rows[row.id] = row._replace(
            status=how.transition.target,
            attempt=how.attempt,
            crashes=how.crashes,
            releases=how.releases,
            ready_at=(how.ready_at or row.ready_at) if how.waiting_for is None else None,
            run_at=how.run_at or row.run_at,
            waiting_for=how.waiting_for,
            finished_at=how.finished_at,
            result=how.result or row.result,
            error_type=None if completed else error_type,
            lease_expires_at=None,
            recorded=row.recorded + how.recorded,
        )

    def reap(self, *, spared: Collection[UUID], dead: Collection[str], begun_by: BegunBy) -> Settlement:
        lapsed = [row for row in self._rows.values() if self.is_reaped(row, dead) and row.id not in spared]
        lapsed.sort(key=_end_of_lease)
        ended: list[tuple[Lease, Outcome]] = []
        for row in lapsed[:REAPED_AT_ONCE]:
            begun = begun_by(row.worker_id)
            unbegun = begun is not None and (row.id, row.fence) not in begun
            ended.append((lease_of(row), Released(started=False) if unbegun else Lapsed()))
        return self.settle(ended) if ended else Settlement()

    def is_reaped(self, row: Row, dead: Collection[str]) -> bool:
        if row.status is not PROCESSING or row.lease_expires_at is None:
            return False
        return row.lease_expires_at <= self.now or row.worker_id in dead

    # -- by hand, and by time

    def cancel(self, ids: Sequence[UUID]) -> Cancellation:
        answer = Cancellation()
        for id_ in sorted(set(ids)):
            row = self._rows.get(id_)
            if row is None:
                continue
            if row.status is PENDING:
                self._end_pending(row, Status.CANCELLED, CANCELLED)
                answer.cancelled.append(id_)
            elif row.status is PROCESSING:
                self._rows[id_] = row._replace(cancel_requested=True)
                answer.requested.append(id_)
            else:
                answer.finished[id_] = row.status
        return answer

    def _end_pending(self, row: Row, status: Status, error_type: str) -> None:
        self._rows[row.id] = row._replace(
            status=status, finished_at=self.now, waiting_for=None, error_type=error_type
        )

    def retry(self, ids: Sequence[UUID], *, run_at: datetime | None = None) -> int:
        finished = [row for id_ in set(ids) if (row := self._rows.get(id_)) and row.status in FINISHED]
        for row in finished:
            self._rows[row.id] = self.waiting_until(run_at, row)._replace(
                status=PENDING,
                expires_at=None,
                attempts_before=row.attempt,
                crashes=0,
                releases=0,
                cancel_requested=False,
                finished_at=None,
                result=None,
                unique_fence=row.fence,
            )
        return len(finished)

    def run_now(self, id_: UUID) -> Status | None:
        row = self._rows.get(id_)
        if row is not None and row.status is PENDING:
            ready_at = row.ready_at or self.now
            self._rows[id_] = row._replace(run_at=None, ready_at=ready_at, waiting_for=None)
        return None if row is None else row.status

    def expire(self) -> int:
        late = [row for row in self._rows.values() if row.status is PENDING and self._is_over(row.expires_at)]
        for row in late:
            self._end_pending(row, Status.FAILED, EXPIRED)
        return len(late)

    def _is_over(self, moment: datetime | None) -> bool:
        return moment is not None and moment <= self.now


def lease_of(row: Row) -> Lease:
    """The lease that its last claim gave out."""
    return Lease(
        task_id=row.id,
        fence=row.fence,
        handler=HANDLER,
        args="[]",
        payload="{}",
        attempt=row.attempt,
        attempts_before=row.attempts_before,
        max_attempts=row.max_attempts,
        crashes=row.crashes,
        releases=row.releases,
        worker_id=row.worker_id,
        queue=row.queue,
    )


def _claim_order(row: Row) -> tuple[int, datetime | None, int]:
    return -row.priority, row.ready_at, row.id.int


def _settle_order(ended: tuple[Lease, Outcome]) -> tuple[bool, int, int]:
    """Successes first, then in the order of locks: chances are drawn in that order."""
    lease, outcome = ended
    return not isinstance(outcome, Succeeded), lease.task_id.int, lease.fence


def _end_of_lease(row: Row) -> tuple[datetime | None, int]:
    return row.lease_expires_at, row.id.int
