"""What crosses every border: a spec comes in, a lease goes out, an outcome comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from tasks import tracing
from tasks.fingerprint import FRAME_CHARS
from tasks.states import Status, WaitingFor
from tasks.storable import storable_text
from tasks.unique import Unique

MESSAGE_CHARS = 2_000  # of an error's message
TRACEBACK_CHARS = 20_000  # of a traceback: its end, where the error is


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A wish for one task, already well formed. Every way in builds one."""

    handler: str
    title: str = ""
    args: Sequence[Any] = ()  # from Django code only
    payload: dict[str, Any] = field(default_factory=dict)  # the keyword arguments
    owner: str = ""
    queue: str = "default"
    priority: int = 0
    tags: Sequence[str] = ()
    run_at: datetime | None = None  # None: at once
    expires_at: datetime | None = None  # never start after; None: never expires
    max_attempts: int = 5
    timeout: timedelta | None = timedelta(minutes=5)  # None: no limit
    unique: Unique | None = None
    traceparent: str | None = field(default_factory=tracing.current)  # where it is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """A task just made, or else ``deduplicated``: the one that has its unique key.

    Its fields are named like the row's, so that one reader serves both.
    """

    id: UUID
    title: str
    status: Status = Status.PENDING
    created_at: datetime
    handler: str
    owner: str
    queue: str
    priority: int
    args: Sequence[Any]
    payload: dict[str, Any]
    tags: Sequence[str]
    run_at: datetime | None
    expires_at: datetime | None
    ready_at: datetime | None
    waiting_for: WaitingFor | None
    timeout_seconds: float | None
    max_attempts: int
    traceparent: str | None = None
    attempt: int = 0
    attempts_before: int = 0
    fence: int = 0
    attempted_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: Any = None
    error: dict[str, Any] | None = None
    worker_id: str = ""
    lease_expires_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    cancel_reason: str | None = None
    unique_key: str | None = None
    deduplicated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Once:
    """What makes two requests the same one, sent again; and what must not differ between them then."""

    owner: str
    path: str
    key: str
    fingerprint: str = field(compare=False)  # of the body, and of what whoever asks may see


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The answer of the first of them. ``status`` 0: it is not decided yet."""

    fingerprint: str
    status: int
    body: str
    location: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """Who claims: a dispatcher, what it knows and what it serves."""

    worker_id: str
    handlers: tuple[str, ...]  # the handlers it knows
    queues: tuple[str, ...] | None = None  # in this order; None: every queue, taking turns
    lease_for: timedelta = timedelta(seconds=30)

    def serves(self, queue: str) -> bool:
        return self.queues is None or queue in self.queues


LeaseKey = tuple[UUID, int]  # a task, and the fence of a lease on it: one alone proves nothing


class Lease(NamedTuple):
    """The right to run one attempt of one task until it expires.

    A tuple, because there is one for each task twice: it is made in a quarter of a dataclass's time.
    """

    task_id: UUID
    fence: int  # proof of this very claim; a later claim has a higher one
    handler: str
    args: str  # JSON text: checked when it came in, parsed only where it runs
    payload: str
    attempt: int  # its number in the task's whole history, from 1
    attempts_before: int = 0  # used up before the present budget began
    max_attempts: int = 5  # of the present budget
    crashes: int = 0
    releases: int = 0
    timeout: timedelta | None = None
    worker_id: str = ""
    claimed_at: datetime | None = None
    queue: str = "default"
    cancel_requested: bool = False  # as seen by settle, under lock
    traceparent: str | None = None
    waited: float = 0.0  # seconds, from when it was ready to this claim

    @property
    def attempts_used(self) -> int:
        """This attempt's number within its budget, from 1."""
        return self.attempt - self.attempts_before

    @property
    def attempts_left(self) -> int:
        """How many attempts the budget has after this one."""
        return max(0, self.max_attempts - self.attempts_used)

    @property
    def key(self) -> LeaseKey:
        return self.task_id, self.fence


_Kind = type[BaseException]  # in the class below ``type`` is a field


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """What is kept of an error: bounded, and storable on every database."""

    type: str  # the exception's dotted path
    message: str
    traceback: str = ""
    frame: str = ""  # the deepest one of the handler's project: see ``fingerprint``

    @classmethod
    def of(cls, kind: _Kind, message: str, traceback: str = "") -> ErrorReport:
        return cls.bounded(f"{kind.__module__}.{kind.__qualname__}", message, traceback)

    def because(self, reason: str | None, *, traceback: str = "") -> ErrorReport:
        """The same, with a reason that somebody gave."""
        message = f"{self.message.removesuffix('.')}: {reason}" if reason else self.message
        return ErrorReport.bounded(self.type, message, traceback)

    @classmethod
    def bounded(cls, type_: str, message: str, traceback: str = "", frame: str = "") -> ErrorReport:
        kind, said = (storable_text(text)[:MESSAGE_CHARS] for text in (type_, message))
        return cls(kind, said, storable_text(traceback)[-TRACEBACK_CHARS:], frame[:FRAME_CHARS])


@dataclass(frozen=True, slots=True)
class Succeeded:
    result: str = "null"  # JSON text, checked by the executor


@dataclass(frozen=True, slots=True)
class Failed:
    error: ErrorReport
    retryable: bool = True
    retry_in: timedelta | None = None  # None: the backoff decides


@dataclass(frozen=True, slots=True)
class Crashed:
    """The process that ran it died, and somebody saw it."""

    how: str  # "killed by SIGSEGV", "exit code 3"


@dataclass(frozen=True, slots=True)
class TimedOut:
    """It ran longer than its timeout and was interrupted or killed."""

    after: timedelta
    traceback: str = ""  # where the interrupt met it; empty when it had to be killed
    frame: str = ""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody asked for its end while it ran, and it ended."""

    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Lapsed:
    """Its lease ran out and nobody saw how it ended."""


@dataclass(frozen=True, slots=True)
class Released:
    """Given back unfinished. Does not use up the attempt, ten times."""

    started: bool  # one that never began is not counted in releases


Outcome = Succeeded | Failed | Crashed | TimedOut | Cancelled | Lapsed | Released


def lease_to_wire(lease: Lease) -> list[Any]:
    """A JSON array that ``lease_from_wire`` turns back into the same lease: its fields, in their order."""
    task_id, *between, timeout, worker_id, claimed_at, queue, cancel_requested, traceparent, waited = lease
    ends = (_microseconds(timeout), worker_id, _time_text(claimed_at), queue, cancel_requested)
    return [task_id.hex, *between, *ends, traceparent, waited]


def lease_from_wire(wire: list[Any]) -> Lease:
    """Raises TypeError or ValueError for what ``lease_to_wire`` did not make."""
    task_id, *between, timeout, worker_id, claimed_at, queue, cancel_requested, traceparent, waited = wire
    ends = (_duration(timeout), worker_id, _time(claimed_at), queue, cancel_requested)
    return Lease._make((UUID(task_id), *between, *ends, traceparent, waited))


# Remembered, because the leases that go together have but one time of their claim and few time limits.


@lru_cache(maxsize=64)
def _microseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // _MICROSECOND  # exact, however long


@lru_cache(maxsize=64)
def _duration(microseconds: int | None) -> timedelta | None:
    return None if microseconds is None else microseconds * _MICROSECOND


@lru_cache(maxsize=64)
def _time_text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


@lru_cache(maxsize=64)
def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def outcome_to_wire(outcome: Outcome) -> dict[str, Any]:
    """A JSON object that ``outcome_from_wire`` turns back into the same outcome."""
    if isinstance(outcome, Succeeded):  # what nearly all are
        return {"outcome": "Succeeded", "result": outcome.result}
    wire = asdict(outcome)
    for name in ("after", "retry_in"):
        if wire.get(name) is not None:
            wire[name] = wire[name] // _MICROSECOND  # exact, however long
    return {**wire, "outcome": type(outcome).__name__}


def outcome_from_wire(wire: dict[str, Any]) -> Outcome:
    """Raises KeyError or TypeError for what ``outcome_to_wire`` did not make."""
    if wire["outcome"] == "Succeeded":
        return Succeeded(wire["result"])
    fields = dict(wire)
    kind = _OUTCOMES[fields.pop("outcome")]
    for name in ("after", "retry_in"):
        if fields.get(name) is not None:
            fields[name] = fields[name] * _MICROSECOND
    if kind is Failed:
        fields["error"] = ErrorReport(**fields["error"])
    return kind(**fields)


_MICROSECOND = timedelta(microseconds=1)
_OUTCOMES: dict[str, Callable[..., Outcome]] = {
    kind.__name__: kind for kind in (Succeeded, Failed, Crashed, TimedOut, Cancelled, Lapsed, Released)
}
