"""A run of the chaos as it should be, told step by step: each rule has a case in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from bench.chaos.facts import (
    EVERYBODY,
    Ask,
    Change,
    EndedAttempt,
    Facts,
    Fault,
    Life,
    Note,
    Row,
    Survival,
)

LEASE, GRACE = 4.0, 4.0
FIRST, SECOND, THIRD = 10, 20, 30  # pids of dispatchers; that of the one executor of each is one higher


def worker_id(pid: int) -> str:
    return f"host:{pid}:nonce"


@dataclass
class Story:
    """What becomes of one task."""

    id: str
    title: str
    max_attempts: int = 100
    last: Change | None = None
    before: int = 0
    releases: int = 0
    changes: list[Change] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    attempts: list[EndedAttempt] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)

    def ask(self, verb: str, at: float, status: int, **fields: Any) -> Story:
        wish = fields.pop("wish", f"{verb} {self.id} {at}")
        known = {"task_id": self.id, "sent_at": at, "told_at": at + 0.1, "status": status, "ids": (self.id,)}
        if verb == "create":
            known |= {"task_id": "", "titles": (self.title,)}
        self.asks.append(Ask(verb=verb, wish=wish, **{**known, **fields}))
        return self

    def made(self, at: float, **fields: Any) -> Story:
        self.ask("create", at - 0.05, 201, **fields)
        self._change(at, old_status="", status="pending", old_fence=0, old_attempt=0, fence=0, attempt=0)
        return self

    def claimed(self, at: float, worker: int) -> Story:
        was = self._last
        self._change(
            at, status="processing", fence=was.fence + 1, attempt=was.attempt + 1, worker_id=worker_id(worker)
        )
        self._note("start", at + 0.05)
        return self

    def ran_on_until(self, at: float) -> Story:
        self._note("end", at)
        return self

    def completed(self, at: float) -> Story:
        self._note("end", at - 0.05)
        self._change(at, status="completed", result=str(self._last.fence))
        return self

    def ended(self, at: float, outcome: str, status: str = "pending", **fields: Any) -> Story:
        was = self._last
        self.attempts.append(
            EndedAttempt(
                task_id=self.id,
                number=was.attempt,
                fence=was.fence,
                outcome=outcome,
                at=at,
                worker_id=was.worker_id,
            )
        )
        self._change(at, status=status, crashes=was.crashes + (outcome == "crashed"), **fields)
        return self

    def released(self, at: float) -> Story:
        self.releases += 1
        self._change(at, status="pending", attempt=self._last.attempt - 1)
        return self

    def cancelled(self, at: float) -> Story:
        self.ask("cancel", at - 0.05, 200)
        self._change(at, status="cancelled")
        return self

    def retried(self, at: float) -> Story:
        self.ask("retry", at - 0.05, 200)
        self.before = self._last.attempt
        self._change(at, status="pending", crashes=0)
        return self

    @property
    def _last(self) -> Change:
        assert self.last is not None
        return self.last

    def _note(self, kind: str, at: float) -> None:
        it = self._last
        pid = it.worker + 1
        self.notes.append(
            Note(kind=kind, at=at, task_id=self.id, fence=it.fence, attempt=it.attempt, pid=pid)
        )

    def _change(self, at: float, **fields: Any) -> None:
        known: dict[str, Any] = {"task_id": self.id, "at": at, "claimed_at": at, "result": ""}
        if (was := self.last) is not None:
            known |= {"old_status": was.status, "old_fence": was.fence, "old_attempt": was.attempt}
            known |= {"old_crashes": was.crashes, "crashes": was.crashes, "worker_id": was.worker_id}
            known |= {"fence": was.fence, "attempt": was.attempt}
        self.last = Change(**{**known, **fields})
        self.changes.append(self.last)

    @property
    def row(self) -> Row:
        it = self._last
        return Row(
            id=self.id,
            title=self.title,
            status=it.status,
            attempt=it.attempt,
            attempts_before=self.before,
            max_attempts=self.max_attempts,
            fence=it.fence,
            crashes=it.crashes,
            releases=self.releases,
        )


def stories() -> dict[str, Story]:
    plain = Story("a1", "quick-c-1").made(1).claimed(1.1, FIRST).completed(1.2)
    plain.ask("read", 1.3, 200).ask("cancel", 1.4, 409, ids=())
    plain.ask("create", 1.5, 200, wish=plain.asks[0].wish)  # sent once more
    slept = Story("a2", "long-c-2").made(2).claimed(2.1, FIRST).ended(7.0, "lapsed").claimed(7.2, SECOND)
    slept.notes.append(replace(slept.notes[-1], kind="overlap", other=1))
    slept.notes.append(replace(slept.notes[0], kind="end", at=9.1))
    slept.completed(12)
    failed = Story("a3", "hopeless-c-3", 2).made(3).claimed(3.1, SECOND).ended(3.2, "failed")
    failed.claimed(3.6, SECOND).ended(3.7, "failed", "failed")
    wanted = Story("a4", "quick-c-4").made(4).cancelled(4.5).retried(5.2)
    wanted.claimed(5.6, SECOND).completed(5.8)
    stopped = Story("a5", "long-c-5").made(13).claimed(13.1, SECOND).ask("cancel", 14, 202)
    stopped.ended(14.6, "cancelled", "cancelled", cancel_requested=True)
    poison = Story("a6", "poison-c-6").made(15)
    for at, status in ((16.0, "pending"), (17.0, "pending"), (19.0, "failed")):
        poison.claimed(at, SECOND).ended(at + 0.1, "crashed", status)
    shot = Story("a7", "slow-c-7").made(17.8).claimed(18, FIRST).ended(18.7, "crashed")
    shot.claimed(19.4, SECOND).completed(19.6)
    orphaned = Story("a8", "long-c-8").made(23).claimed(23.1, FIRST).ended(26, "lapsed")
    orphaned.claimed(26.1, SECOND).completed(31)
    handed = Story("a9", "long-c-9").made(32).claimed(32.1, THIRD).released(36).claimed(36.1, SECOND)
    handed.completed(37)
    refused = Story("b1", "quick-c-10").made(44.2).claimed(44.4, SECOND).completed(44.5)
    refused.ask("create", 42, 503, wish=refused.asks[0].wish, ids=(), retry_after=True)
    later = Story("b2", "delayed-c-11").made(4, run_at=5.5).claimed(5.6, SECOND).completed(5.7)
    told = (plain, slept, failed, wanted, stopped, poison, shot, orphaned, handed, refused, later)
    return {story.id: story for story in told}


FAULTS = (
    Fault(kind="pause", who="worker-1", felt_by=FIRST, began=2.5, until=9),
    Fault(kind="kill", who="executor", felt_by=FIRST + 1, began=18.5),
    Fault(kind="kill", who="worker-1", felt_by=FIRST, began=25),
    Fault(kind="stop", who="worker-1", felt_by=THIRD, began=33),
    Fault(kind="database", who="restart-database", felt_by=EVERYBODY, began=41, until=44),
)
LIVES = (
    Life(name="api", pid=5, began=0, ended_at=60, code=0, asked_at=59),
    Life(name="worker-1", pid=FIRST, began=0, ended_at=25, code=-9, killed=True),
    Life(name="worker-2", pid=SECOND, began=0, ended_at=60, code=0, asked_at=59),
    Life(name="worker-1", pid=THIRD, began=25.5, ended_at=37, code=0, asked_at=33),
)


def facts_of(told: dict[str, Story], **fields: Any) -> Facts:
    def together(part: Callable[[Story], list[Any]]) -> list[Any]:
        return [thing for story in told.values() for thing in part(story)]

    known: dict[str, Any] = {
        "rows": {story.id: story.row for story in told.values()},
        "asks": together(lambda story: story.asks),
        "changes": sorted(together(lambda story: story.changes), key=lambda change: change.at),
        "notes": together(lambda story: story.notes),
        "attempts": together(lambda story: story.attempts),
        "faults": FAULTS,
        "lives": LIVES,
        "survivals": [Survival(pid=FIRST + 1, worker=FIRST, seconds=0.1)],
    }
    return Facts(lease_seconds=LEASE, grace_seconds=GRACE, **{**known, **fields})
