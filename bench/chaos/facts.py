"""What was seen during a run: by clients, by handlers, by a trigger in the database, and by who did the harm.

All times are monotonic seconds of one machine; ``NEVER`` is the end of what did not end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from tasks.states import FINISHED

NEVER = float("inf")
EVERYBODY, API = 0, -1  # who feels a fault, if it is not one worker or one executor: their pids are above
FINISHED_VALUES = frozenset(status.value for status in FINISHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request, and what its client was told."""

    verb: str  # create, batch, read, cancel, retry
    wish: str  # the same each time that one is sent again, with its Idempotency-Key
    keyed: bool = True
    titles: tuple[str, ...] = ()  # of the tasks that it is to make
    task_id: str = ""  # that it is about
    sent_at: float
    told_at: float = NEVER
    status: int = 0  # 0: no answer came
    ids: tuple[str, ...] = ()  # of the tasks that the answer shows
    run_at: float | None = None  # of one that was to wait
    retry_after: bool = False  # the answer has that header

    @property
    def made(self) -> bool:
        return self.verb in ("create", "batch") and self.status in (200, 201)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A task as it stands at the end."""

    id: str
    title: str
    status: str
    attempt: int
    attempts_before: int
    max_attempts: int
    fence: int
    crashes: int
    releases: int
    error: str | None = None

    @property
    def used(self) -> int:
        """Attempts of its present budget."""
        return self.attempt - self.attempts_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a row, written down in the very transaction that made it."""

    task_id: str
    at: float
    old_status: str  # "" when it was made
    status: str  # "deleted" when it was deleted
    old_fence: int
    fence: int
    old_attempt: int
    attempt: int
    old_crashes: int = 0
    crashes: int = 0
    worker_id: str = ""
    claimed_at: float = 0.0  # what the row says of its last claim
    result: str = ""
    cancel_requested: bool = False

    @property
    def claims(self) -> bool:
        return self.status == "processing" and self.fence != self.old_fence

    @property
    def ends(self) -> bool:
        """The claim that held it until now."""
        return self.old_status == "processing" and self.status != "processing"

    @property
    def retries(self) -> bool:
        return self.old_status in FINISHED_VALUES and self.status == "pending"

    @property
    def worker(self) -> int:
        """The pid of the dispatcher that claimed it last; 0: nobody did."""
        return pid_of(self.worker_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a handler wrote down: ``start``, ``end``, ``interrupted``, or ``overlap`` with another run."""

    kind: str
    at: float
    task_id: str
    fence: int
    attempt: int
    pid: int
    other: int = 0  # the fence of the run that it overlaps


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedAttempt:
    """A row of the history of what went wrong."""

    task_id: str
    number: int
    fence: int
    outcome: str
    at: float
    worker_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that was done to somebody."""

    kind: str  # kill, pause, stop, database, stall
    who: str
    felt_by: int  # a pid, or EVERYBODY or API
    began: float
    until: float = NEVER  # whoever was killed does not come back

    def meets(self, begin: float, end: float) -> bool:
        return self.began <= end and self.until >= begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One process of a part of the service: ``api``, or the dispatcher of ``worker-…``."""

    name: str
    pid: int
    began: float
    ended_at: float = NEVER
    code: int | None = None
    asked_at: float | None = None  # to stop, with SIGTERM
    killed: bool = False

    @property
    def works(self) -> bool:
        return self.name.startswith("worker")

    def spans(self, begin: float, end: float) -> bool:
        return self.began <= begin and self.ended_at >= end


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """An executor whose dispatcher has ended, and for how long it went on."""

    pid: int
    worker: int
    seconds: float


class OfTask(Protocol):
    @property
    def task_id(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Facts:
    lease_seconds: float
    grace_seconds: float
    asks: Sequence[Ask] = ()
    rows: Mapping[str, Row]
    changes: Sequence[Change] = ()  # in the order in which they were written
    notes: Sequence[Note] = ()
    attempts: Sequence[EndedAttempt] = ()
    faults: Sequence[Fault] = ()
    lives: Sequence[Life] = ()
    survivals: Sequence[Survival] = ()
    left_over: Sequence[str] = ()  # processes that were there when all parts had stopped
    integrity: str = "ok"

    # -- who was disturbed

    def disturbed(self, begin: float, end: float, *pids: int, kinds: Iterable[str] = ()) -> bool:
        """Whether anything was done then to one of these, or to everybody."""
        wanted = frozenset(kinds)
        return any(
            fault.meets(begin, end)
            for fault in self.faults
            if fault.felt_by in (EVERYBODY, *pids) and (not wanted or fault.kind in wanted)
        )

    # -- what is known of one task

    @cached_property
    def changes_of(self) -> Mapping[str, Sequence[Change]]:
        return _by_task(self.changes)

    @cached_property
    def notes_of(self) -> Mapping[str, Sequence[Note]]:
        return _by_task(self.notes)

    @cached_property
    def attempts_of(self) -> Mapping[str, Sequence[EndedAttempt]]:
        return _by_task(self.attempts)

    @cached_property
    def asks_of(self) -> Mapping[str, Sequence[Ask]]:
        """Those about a task that exists."""
        return _by_task([ask for ask in self.asks if ask.task_id])

    @cached_property
    def claims(self) -> Mapping[tuple[str, int], Change]:
        return {(change.task_id, change.fence): change for change in self.changes if change.claims}

    @cached_property
    def ends(self) -> Mapping[tuple[str, int], Change]:
        """What became of each claim; none for one that was never ended."""
        return {(change.task_id, change.old_fence): change for change in self.changes if change.ends}

    @cached_property
    def outcomes(self) -> Mapping[tuple[str, int], EndedAttempt]:
        return {(attempt.task_id, attempt.fence): attempt for attempt in self.attempts}

    def statuses_between(self, task_id: str, begin: float, end: float) -> set[str]:
        """Those that a task had at some moment of these."""
        changes = self.changes_of.get(task_id, ())
        before = [change.status for change in changes if change.at <= begin]
        during = [change.status for change in changes if begin < change.at <= end]
        return {*before[-1:], *during}


def _by_task[T: OfTask](things: Iterable[T]) -> Mapping[str, Sequence[T]]:
    found: defaultdict[str, list[T]] = defaultdict(list)
    for thing in things:
        found[thing.task_id].append(thing)
    return found


def pid_of(worker_id: str) -> int:
    """A worker's id is ``host:pid:nonce``."""
    parts = worker_id.split(":")
    return int(parts[-2]) if len(parts) > 2 else 0
