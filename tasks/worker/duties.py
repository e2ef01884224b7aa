"""What a worker does now and then, each safe on any number of machines at once: there is no leader."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any
from uuid import UUID

from django.db import connections

from tasks import clock, failures, lifecycle, rollups, tally
from tasks.conf import config
from tasks.contract import Claimant, Lease
from tasks.lifecycle import Extension, Settlement
from tasks.lifecycle.settling import Ended
from tasks.lifecycle.workers import SEEN_EVERY
from tasks.limits import ROWS_AT_ONCE
from tasks.logs import event
from tasks.models import Idempotency, Task, Worker
from tasks.models.task import database
from tasks.sqlite.base import DatabaseWrapper
from tasks.states import Status
from tasks.worker.lock import WorkerLock
from tasks.worker.vitals import Vitals

logger = logging.getLogger("tasks.dispatcher")

REAPED_AT_ONCE = 100
TOLD_AT_LATEST = 100_000  # pruned tasks
SOON = timedelta(seconds=0.05)  # when a duty did all it may at once, and there is more
CHECKPOINT_WAL_BYTES = 16 * 1024 * 1024
QUIET = timedelta(seconds=10)  # after which even a small WAL is written back


@dataclass(slots=True)
class Duty:
    """One line of the table: what, how often, and when next (monotonic)."""

    name: str
    every: timedelta
    run: Callable[[Sequence[Lease]], Any]  # gets what is in hand; True: it is not done yet
    due: float = 0.0

    def put_off(self, now: float) -> None:
        self.due = now + self.every.total_seconds()

    def go_on_soon(self, now: float) -> None:
        self.due = min(self.due, now + SOON.total_seconds())


class Duties:
    """The periodic work of one worker; everything here runs in the ledger's thread."""

    def __init__(
        self, claimant: Claimant, presence: Worker, lock: WorkerLock | None, vitals: Vitals | None = None
    ) -> None:
        self._claimant = claimant
        self._presence = presence
        self._vitals = vitals or Vitals()
        self._lock = lock
        self._alias = database()
        self._wal_bytes = 0
        self._quiet_since = time.monotonic()
        self._pruned: Counter[str] = Counter()

    def table(self) -> list[Duty]:
        return [
            Duty("extend", self._claimant.lease_for / 3, self.extend),
            Duty("worker", SEEN_EVERY, self.present),
            Duty("reap", timedelta(seconds=2), self.reap),
            Duty("park", timedelta(seconds=5), self.park),
            Duty("expire", timedelta(seconds=2), self.expire),
            Duty("forget", timedelta(minutes=1), self.forget),
            Duty("prune", timedelta(minutes=1), self.prune),
            Duty("failures", timedelta(minutes=1), self.forget_failures),
            Duty("checkpoint", timedelta(seconds=2), self.checkpoint),
        ]

    def _now(self) -> datetime:
        return clock.now(self._alias)

    def extend(self, in_hand: Sequence[Lease]) -> Extension | None:
        if not in_hand:
            return None
        return lifecycle.extend(in_hand, by=self._claimant.lease_for, now=self._now())

    def present(self, in_hand: Sequence[Lease]) -> None:
        """Its row is written anew, and says whether somebody wants this worker to end."""
        self._presence.busy = tally.here.busy
        self._presence.memory_mb = self._vitals.memory_mb
        self._presence.recycled = self._vitals.recycled
        self._vitals.drains |= lifecycle.present(self._presence, now=self._now())

    def reap(self, in_hand: Sequence[Lease]) -> Settlement:
        """What lapsed; and at once what dead workers of this host held, and what we hold and know nothing of.

        Those are the leases of a turn that was committed when its connection broke: nobody runs them.
        """
        spared = [lease.task_id for lease in in_hand]
        written: list[Ended] = []
        self._reap_all_of(self._claimant.worker_id, spared, written)
        if self._lock is not None:
            self._lock.for_each_dead(partial(self._bury, spared, written))
        while self._lapsed(spared):
            reaped = self._reap(spared)
            written += reaped
            if len(reaped) < REAPED_AT_ONCE:  # the rest is somebody else's at this moment
                break
        return Settlement(written)

    def _reap(self, spared: Collection[UUID], *dead_workers: str) -> Sequence[Ended]:
        begun_by = cache(self._lock.begun_by) if self._lock is not None else lambda _: None
        return lifecycle.reap(
            now=self._now(), spared=spared, dead_workers=dead_workers, begun_by=begun_by, limit=REAPED_AT_ONCE
        ).written

    def _lapsed(self, spared: Collection[UUID]) -> bool:
        """A plain read: where nothing lapsed there is no transaction."""
        held = Task.objects.using(self._alias).filter(status=Status.PROCESSING)
        return held.filter(lease_expires_at__lte=self._now()).exclude(pk__in=spared).exists()

    def _bury(self, spared: Collection[UUID], written: list[Ended], worker_id: str) -> bool:
        """Reap all that a dead worker held; True when nothing is left of it."""
        if not self._reap_all_of(worker_id, spared, written):
            return False
        lifecycle.absent(worker_id)
        return True

    def _reap_all_of(self, worker_id: str, spared: Collection[UUID], written: list[Ended]) -> bool:
        """All of it now: later it might be taken for lapsed, begun or not. False: not all could be."""
        held = Task.objects.using(self._alias).filter(worker_id=worker_id, status=Status.PROCESSING)
        while held.exclude(pk__in=spared).exists():
            reaped = self._reap(spared, worker_id)
            if not reaped:
                return False
            written += reaped
        return True

    def park(self, in_hand: Sequence[Lease]) -> bool:
        """Free what waited for handlers that this worker knows; set aside what no live one does."""
        freed = lifecycle.unpark(self._claimant.handlers, now=self._now())
        known = lifecycle.handlers_of_the_living(now=self._now()) | set(self._claimant.handlers)
        return max(freed, lifecycle.park(known)) >= ROWS_AT_ONCE

    def expire(self, in_hand: Sequence[Lease]) -> bool:
        late = Task.objects.using(self._alias).filter(status=Status.PENDING, expires_at__lte=self._now())
        return late.exists() and lifecycle.expire(now=self._now()) >= ROWS_AT_ONCE

    def forget(self, in_hand: Sequence[Lease]) -> bool:
        """Outcomes of requests, kept for those who send them again."""
        old = Idempotency.objects.using(self._alias).filter(created_at__lte=self._now() - lifecycle.KEPT_FOR)
        return old.exists() and lifecycle.forget(now=self._now()) >= ROWS_AT_ONCE

    def prune(self, in_hand: Sequence[Lease]) -> bool:
        """One batch of finished tasks that were kept long enough; in the end the log tells how many.

        Then also what no chart shows any more.
        """
        for status, age in config().kept_for.items():
            now = self._now()
            if not lifecycle.any_outlived(status, before=now - age, now=now):
                continue
            if count := lifecycle.prune(status, before=now - age, now=now):
                self._pruned[status.value] += count
                if self._pruned.total() >= TOLD_AT_LATEST:
                    self._tell_pruned()
                return True
        self._tell_pruned()
        rollups.prune(now=self._now())
        return False

    def forget_failures(self, in_hand: Sequence[Lease]) -> bool:
        """Groups that were not seen for as long as a failed task is kept."""
        age = config().kept_for.get(Status.FAILED)
        return age is not None and failures.forget(before=self._now() - age)

    def _tell_pruned(self) -> None:
        if self._pruned:
            event(logger, logging.INFO, "tasks.pruned", **self._pruned)
            self._pruned.clear()

    def checkpoint(self, in_hand: Collection[Lease]) -> None:
        """Write the WAL back when it has grown, or when nobody has written for a while."""
        connection = connections[self._alias]
        if not isinstance(connection, DatabaseWrapper) or not connection.path:
            return
        size = connection.wal_bytes()
        now = time.monotonic()
        if size != self._wal_bytes:
            self._wal_bytes, self._quiet_since = size, now
        quiet = now - self._quiet_since > QUIET.total_seconds()
        if size > CHECKPOINT_WAL_BYTES or (size and quiet):
            connection.checkpoint_if_due()
