"""Books that are wrong in one way each: whoever watches the simulation has to notice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from tasks import states
from tasks.contract import Crashed, Failed, Lapsed, Lease, Outcome, Released
from tasks.decide import Decision
from tasks.lifecycle import Cancellation, Extension, Settlement
from tasks.states import FINISHED, Status
from tasks.tests.simulation.desk import LEASE_FOR, BegunBy, Row
from tasks.tests.simulation.memory import Memory


class WritesWithoutFence(Memory):
    """Whoever ran it may write, as long as somebody runs it."""

    def holds(self, lease: Lease) -> bool:
        return self._rows[lease.task_id].status is Status.PROCESSING


class WritesOverWhatHasEnded(Memory):
    """The fence is looked at, the status is not."""

    def holds(self, lease: Lease) -> bool:
        return self._rows[lease.task_id].fence == lease.fence


class KeepsTheFence(Memory):
    def take(self, row: Row, worker_id: str) -> Lease:
        lease = super().take(row, worker_id)
        self._rows[row.id] = self._rows[row.id]._replace(fence=max(1, row.fence))
        return lease._replace(fence=max(1, row.fence))


class CountsNoAttempt(Memory):
    def take(self, row: Row, worker_id: str) -> Lease:
        lease = super().take(row, worker_id)
        self._rows[row.id] = self._rows[row.id]._replace(attempt=row.attempt)
        return lease


class CountsNoLapse(Memory):
    """A worker that vanishes has cost nothing: for ever."""

    def decide(self, row: Row, lease: Lease, outcome: Outcome) -> Decision:
        how = super().decide(row, lease, outcome)
        return how._replace(attempt=how.attempt - 1) if isinstance(outcome, Lapsed) else how


class CountsNoCrash(Memory):
    def decide(self, row: Row, lease: Lease, outcome: Outcome) -> Decision:
        how = super().decide(row, lease, outcome)
        return how._replace(crashes=row.crashes) if isinstance(outcome, Crashed) else how


class BillsWhatNeverBegan(Memory):
    def decide(self, row: Row, lease: Lease, outcome: Outcome) -> Decision:
        how = super().decide(row, lease, outcome)
        return how._replace(attempt=row.attempt) if outcome == Released(started=False) else how


class ReleasesForEver(Memory):
    def decide(self, row: Row, lease: Lease, outcome: Outcome) -> Decision:
        return super().decide(row, lease._replace(releases=0), outcome)


class BacksOffWhatWasCancelled(Memory):
    def decide(self, row: Row, lease: Lease, outcome: Outcome) -> Decision:
        return super().decide(row._replace(cancel_requested=False), lease, outcome)


class NeverWaits(Memory):
    """Another attempt at once, whatever the backoff says."""

    def write(self, row: Row, how: Decision) -> None:
        if how.waiting_for is not None:
            how = how._replace(ready_at=self.now, run_at=None, waiting_for=None)
        super().write(row, how)


class TriesOnceMore(Memory):
    """One attempt above the budget."""

    def decide(self, row: Row, lease: Lease, outcome: Outcome) -> Decision:
        return super().decide(row, lease._replace(max_attempts=lease.max_attempts + 1), outcome)


class StartsEarly(Memory):
    def is_due(self, row: Row) -> bool:
        return row.run_at is not None and row.run_at <= self.now + timedelta(seconds=1)


class StartsWhatHasExpired(Memory):
    def _is_ready(self, row: Row, queue: str) -> bool:
        return super()._is_ready(row._replace(expires_at=None), queue)


class ReapsTheLiving(Memory):
    """By how long it runs, not by its lease."""

    def is_reaped(self, row: Row, dead: Collection[str]) -> bool:
        return row.status is Status.PROCESSING


class ReapsItsOwn(Memory):
    def reap(self, *, spared: Collection[UUID], dead: Collection[str], begun_by: BegunBy) -> Settlement:
        return super().reap(spared=(), dead=dead, begun_by=begun_by)


class NeverReaps(Memory):
    def is_reaped(self, row: Row, dead: Collection[str]) -> bool:
        return False


class ExtendsNothing(Memory):
    def extend(self, leases: Collection[Lease]) -> Extension:
        extension, before = super().extend(leases), self._rows
        self._rows = {
            id_: row._replace(lease_expires_at=row.lease_expires_at and row.lease_expires_at - LEASE_FOR)
            for id_, row in before.items()
        }
        return extension


class TellsNobodyOfLoss(Memory):
    def extend(self, leases: Collection[Lease]) -> Extension:
        extension = super().extend(leases)
        return Extension(held=extension.held, cancelled=extension.cancelled, lost=())


class CancelsWithoutWriting(Memory):
    def cancel(self, ids: Sequence[UUID]) -> Cancellation:
        before = self._rows.copy()
        answer = super().cancel(ids)
        self._rows = before
        return answer


class CancelsWhatHasFinished(Memory):
    def cancel(self, ids: Sequence[UUID]) -> Cancellation:
        answer = super().cancel(ids)
        for id_ in answer.finished:
            self._rows[id_] = self._rows[id_]._replace(status=Status.CANCELLED, result=None)
        return answer


class RetriesWhatRuns(Memory):
    def retry(self, ids: Sequence[UUID], *, run_at: datetime | None = None) -> int:
        for row in [self._rows[id_] for id_ in ids]:
            if row.status not in FINISHED:
                self._rows[row.id] = row._replace(status=Status.FAILED)
        return super().retry(ids, run_at=run_at)


class LosesAnOutcome(Memory):
    """It says that it has written what it has not."""

    def settle(self, outcomes: Sequence[tuple[Lease, Outcome]]) -> Settlement:
        before = self._rows.copy()
        settlement = super().settle(outcomes)
        if len(settlement.written) > 1:
            id_ = settlement.written[-1][0].task_id
            self._rows[id_] = before[id_]
        return settlement


class LosesATask(Memory):
    def write(self, row: Row, how: Decision) -> None:
        super().write(row, how)
        if how.transition is states.FAIL:
            del self._rows[row.id]


class CompletesTwice(Memory):
    """A failure that comes after all is written over the success."""

    def settle(self, outcomes: Sequence[tuple[Lease, Outcome]]) -> Settlement:
        settlement = super().settle(outcomes)
        for lease, outcome in outcomes:
            row = self._rows[lease.task_id]
            if lease in settlement.lost and row.status is Status.COMPLETED and isinstance(outcome, Failed):
                self._rows[row.id] = row._replace(status=Status.FAILED, error_type="app.Error")
        return settlement


BUGS = [
    WritesWithoutFence, WritesOverWhatHasEnded, KeepsTheFence, CountsNoAttempt, CountsNoLapse, CountsNoCrash,
    BillsWhatNeverBegan, ReleasesForEver, BacksOffWhatWasCancelled, NeverWaits, TriesOnceMore, StartsEarly,
    StartsWhatHasExpired, ReapsTheLiving, ReapsItsOwn, NeverReaps, ExtendsNothing, TellsNobodyOfLoss,
    CancelsWithoutWriting, CancelsWhatHasFinished, RetriesWhatRuns, LosesAnOutcome, LosesATask,
    CompletesTwice,
]  # fmt: skip
