"""What must hold of every row after every verb, whoever did what: said without ``decide`` and without SQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from tasks.contract import Crashed, Failed, Lapsed, Lease, LeaseKey, Outcome, Released, Succeeded, TimedOut
from tasks.lifecycle import Cancellation, Extension, Settlement
from tasks.states import FINISHED
from tasks.tests.simulation.desk import BEGINNING, LEASE_FOR, Desk, Row
from tasks.tests.simulation.stories import (
    CANCELLED,
    COMPLETED,
    FAILED,
    FREE_RELEASES,
    MOVES,
    PENDING,
    PROCESSING,
    SEEN_CRASHES,
    Broken,
    Story,
)


@dataclass
class Rules:
    """Looks at all rows after each verb, and at what those who called it were told."""

    desk: Desk
    stories: dict[UUID, Story] = field(default_factory=dict)
    running: set[LeaseKey] = field(default_factory=set)  # begun, and not known to have ended
    taken_for: dict[LeaseKey, str] = field(default_factory=dict)  # by which verb a lease has ended
    seen: Mapping[UUID, Row] = field(default_factory=dict)
    clock_was_set: bool = False
    met: set[str] = field(default_factory=set)  # the rare things that came up
    latest: datetime = BEGINNING  # that the clock has shown: it may have gone back since

    def _expect(self, rule: str, holds: bool, *detail: object) -> None:
        if not holds:
            raise Broken(rule, " | ".join(map(str, detail)))

    # -- after each verb

    def look(self, verb: str) -> list[tuple[Row, Row]]:
        """What has changed, before and after; each change is one that the verb may make."""
        before, rows = self.seen, self.desk.rows()
        self.seen, self.latest = rows, max(self.latest, self.desk.now)
        for id_ in self.stories:
            self._expect("nothing acknowledged is lost", id_ in rows, id_)
        self._expect("nothing is invented", len(rows) == len(self.stories), sorted(rows))
        changed = []
        for id_, row in rows.items():
            if (old := before.get(id_)) is None or old is row or old == row:
                continue
            if old._replace(unique_while=row.unique_while) != row:  # a key may change hands at any time
                self._look_at(verb, old, row)
                changed.append((old, row))
        return changed

    def _look_at(self, verb: str, old: Row, row: Row) -> None:
        self._expect("states never go back", (old.status, row.status) in MOVES[verb], verb, old, row)
        claimed = row.status is PROCESSING and old.status is PENDING
        self._expect("only a claim raises the fence", row.fence == old.fence + claimed, old, row)
        self.expect_sound(row)
        if claimed:
            self._expect("each claim counts", row.attempt == old.attempt + 1, old, row)
        elif verb not in ("settle", "reap"):
            self._expect("each claim counts", row.attempt == old.attempt, verb, old, row)
        if old.status is PROCESSING and row.status is not PROCESSING:
            self.taken_for[(row.id, row.fence)] = verb

    def expect_sound(self, row: Row) -> None:
        """What a row must look like in any state."""
        leased = row.lease_expires_at is not None
        self._expect("a lease while processing, and only then", leased == (row.status is PROCESSING), row)
        waits = row.waiting_for is not None
        ready_or_waits = (row.ready_at is None) == waits
        self._expect("pending is ready or waits", row.status is not PENDING or ready_or_waits, row)
        self._expect("only pending waits", row.status is PENDING or not waits, row)
        ended = row.finished_at is not None
        self._expect("an end when finished, and only then", ended == (row.status in FINISHED), row)
        used = row.attempt - row.attempts_before
        self._expect("attempts stay within the budget", 0 <= used <= row.max_attempts, row)
        counted = row.recorded + self.stories[row.id].completions_ever + (row.status is PROCESSING)
        newly = row.status is COMPLETED and row.attempt == counted + 1  # its story follows
        self._expect("each attempt is told of once", newly or row.attempt == counted, row, counted)

    # -- by verb

    def enqueued(self, id_: UUID) -> None:
        self.stories.setdefault(id_, Story())
        for _, row in self.look("enqueue"):
            self._expect("only who has the key is replaced", row.id == id_, row)
            self._begin_again(row)

    def _begin_again(self, row: Row) -> None:
        fresh = row.attempts_before == row.attempt and not (row.crashes or row.releases)
        self._expect("a new budget", fresh and not row.cancel_requested, row)
        self.stories[row.id] = Story(completions_ever=self.stories[row.id].completions_ever)

    def claimed(self, worker_id: str, leases: Sequence[Lease]) -> None:
        now, changed = self.desk.now, self.look("claim")
        for old, _ in changed:
            self._expect("never early", old.run_at is None or old.run_at <= self.latest, now, old)
        taken = {row.id: (old, row) for old, row in changed if row.status is PROCESSING}
        given = {lease.task_id: lease for lease in leases}
        self._expect("a lease for each claim", given.keys() == taken.keys() and len(given) == len(leases))
        for id_, (old, row) in taken.items():
            lease, story = given[id_], self.stories[id_]
            proof = lease.fence == row.fence and row.worker_id == worker_id
            self._expect("a lease proves its claim", proof, lease, row)
            self._expect("a lease has its length", row.lease_expires_at == now + LEASE_FOR, now, row)
            self._expect("never after its expiry", old.expires_at is None or old.expires_at > now, now, old)
            early = story.not_before is not None and self.latest < story.not_before
            self._expect("not before its backoff", not early, now, story)
            self._expect("cancelled never starts", not story.told_cancelled, row)

    def extended(self, leases: Collection[Lease], extension: Extension) -> None:
        keys = {lease.key for lease in leases}
        for _, row in self.look("extend"):
            self._expect("only the newest claim writes", (row.id, row.fence) in keys, row)
        for lease in leases:
            row = self.seen[lease.task_id]
            held = row.status is PROCESSING and row.fence == lease.fence
            self._expect("who lost a lease is told", held == (lease not in extension.lost), lease, row)
            if held:
                self._expect("a lease has its length", row.lease_expires_at == self.desk.now + LEASE_FOR, row)

    def settled(self, outcomes: Collection[tuple[Lease, Outcome]], settlement: Settlement) -> None:
        before = self.seen
        changed = {row.id: (old, row) for old, row in self.look("settle")}
        written = {lease.key for lease, *_ in settlement.written}
        if settlement.lost:
            self.met.add("a late outcome")
        for lease, _ in outcomes:
            old = before[lease.task_id]
            held = old.status is PROCESSING and old.fence == lease.fence
            self._expect("only the newest claim writes", held == (lease.key in written), lease, old)
        self._expect("only the newest claim writes", changed.keys() == {id_ for id_, _ in written}, changed)
        for lease, outcome, _ in settlement.written:
            self._ended(outcome, *changed[lease.task_id])

    def reaped(self, settlement: Settlement, spared: Collection[UUID], dead: Collection[str]) -> None:
        now = self.desk.now
        written = {lease.task_id: outcome for lease, outcome, _ in settlement.written}
        for old, row in self.look("reap"):
            over = old.lease_expires_at is not None and old.lease_expires_at <= now
            self._expect("only what lapsed is taken", over or old.worker_id in dead, now, old)
            self._expect("nobody takes what he has in hand", row.id not in spared, row)
            self._expect("a reap tells what it took", row.id in written, row)
            self.met.add("reaped of the dead" if not over else "reaped after a lapse")
            self._ended(written[row.id], old, row)

    def _ended(self, outcome: Outcome, old: Row, row: Row) -> None:
        """An attempt has ended so."""
        story, used = self.stories[row.id], old.attempt - old.attempts_before
        if isinstance(outcome, Succeeded):
            right = row.status is COMPLETED and row.result == outcome.result == str(row.fence)
            self._expect("a success completes, with its own result", right, outcome, row)
            story.completions_ever += 1
        else:
            self._expect("only a success completes", row.status is not COMPLETED, outcome, row)
        if story.asked_to_stop:
            self.met.add(f"asked to stop, then {row.status.value}")
            self._expect("who was asked to stop never goes on", row.status is not PENDING, outcome, row)
        self._count(outcome, story, old, row)
        if row.status is PENDING:
            left = row.attempt - row.attempts_before < row.max_attempts
            self._expect("nobody goes on without an attempt left", left, row)
            story.not_before = self._backoff(outcome, used, row)

    def _count(self, outcome: Outcome, story: Story, old: Row, row: Row) -> None:
        """Attempts, crashes and hand-backs."""
        given_back = old.attempt - row.attempt
        if not isinstance(outcome, Released):
            self._expect("each claim counts", given_back == 0, outcome, old, row)
        elif not outcome.started:
            self._expect("what never began costs nothing", given_back == 1, old, row)
            self.met.add("handed back unbegun")
        else:
            free = story.hand_backs < FREE_RELEASES
            story.hand_backs, story.free = story.hand_backs + 1, story.free + given_back
            self.met.add("a hand-back for nothing" if given_back else "a hand-back that costs")
            self._expect("a hand-back is free ten times", given_back == free, old, row)
        self._expect("hand-backs are counted", row.releases == story.hand_backs, row, story)
        story.crashes += isinstance(outcome, Crashed)
        self._expect("seen crashes are counted", row.crashes == story.crashes, row, story)
        if row.crashes == SEEN_CRASHES:
            self.met.add("poison")
        self._expect("three crashes are poison", row.status is not PENDING or row.crashes < SEEN_CRASHES, row)
        final = isinstance(outcome, Failed) and not outcome.retryable
        self._expect("a final failure fails", not final or row.status is FAILED, outcome, row)

    def _backoff(self, outcome: Outcome, used: int, row: Row) -> datetime | None:
        """Until when the task must wait. It must wait neither more nor less than promised."""
        now = self.desk.now
        if isinstance(outcome, Lapsed) or (isinstance(outcome, Released) and outcome.started):
            self._expect("ready at once", row.ready_at == now, outcome, row)
        if isinstance(outcome, Lapsed | Released):
            return None
        step = min(timedelta(hours=1), timedelta(seconds=2**used))
        least, most = now + step / 2, now + step
        if isinstance(outcome, Failed) and outcome.retry_in is not None:
            least = most = now + outcome.retry_in
        assert isinstance(outcome, Failed | TimedOut | Crashed)
        moment = row.ready_at if row.waiting_for is None else row.run_at
        right = moment is not None and least <= moment <= most
        self._expect("backoff as promised", right, outcome, used, row)
        return least

    def cancelled(self, ids: Collection[UUID], answer: Cancellation) -> None:
        before = self.seen
        self.look("cancel")
        told = [*answer.cancelled, *answer.requested, *answer.finished]
        self._expect("a cancel answers for each task once", sorted(told) == sorted(ids), told, ids)
        for id_ in answer.cancelled:
            self._expect("cancel tells the truth", self.seen[id_].status is CANCELLED, self.seen[id_])
            self.stories[id_].told_cancelled = True
        for id_ in answer.requested:
            row = self.seen[id_]
            self._expect("cancel tells the truth", row.status is PROCESSING and row.cancel_requested, row)
            self.stories[id_].asked_to_stop = True
        for id_ in answer.finished:
            self.met.add("a cancel that came too late")
            unchanged = before[id_] == self.seen[id_]
            self._expect("finished stays as it is", unchanged, before[id_], self.seen[id_])

    def retried(self, count: int) -> None:
        moved = self.look("retry")
        self._expect("a retry tells how many it moved", len(moved) == count, count, moved)
        for _, row in moved:
            self._begin_again(row)

    def run_now(self, id_: UUID) -> None:
        self.look("run_now")
        self.stories[id_].not_before = None

    def expired(self) -> None:
        for old, row in self.look("expire"):
            over = old.expires_at is not None and old.expires_at <= self.desk.now
            self._expect("only what is over expires", over, self.desk.now, row)
            self.met.add("expired")

    # -- what executors do

    def began(self, lease: Lease) -> None:
        """An executor has begun a run; its lease can only be gone if somebody has set the clock."""
        row, story = self.seen[lease.task_id], self.stories[lease.task_id]
        if row.fence == lease.fence and row.status is PROCESSING:
            story.starts += 1
            budget = row.max_attempts + story.free
            self._expect("no more runs than the budget", story.starts <= budget, story, row)
            others = [key for key in self.running if key[0] == row.id]
            taken = [self.taken_for.get(key) for key in others]
            self._expect("runs overlap only after a lapse", set(taken) <= {"reap"}, others, taken)
            if others:
                self.met.add("two runs at once")
        else:
            self.met.add("a run under a lease that had lapsed")
            self._expect("no run without a lease", self.clock_was_set, lease, row)
        self.running.add(lease.key)

    def is_over(self, lease: Lease) -> None:
        """The run has ended, or its process has."""
        self.running.discard(lease.key)
