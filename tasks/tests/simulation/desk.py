"""What a queue is to those who use it here: the verbs, and the rows that one sees afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from tasks.contract import Lease, LeaseKey, Outcome
from tasks.lifecycle import Cancellation, Extension, Settlement
from tasks.states import Status, WaitingFor
from tasks.unique import Unique

BEGINNING = datetime(2026, 1, 12, 1, 37, 19, tzinfo=UTC)
LEASE_FOR = timedelta(seconds=30)
HANDLER = "demo.echo"
QUEUES = ("default", "mail")

BegunBy = Callable[[str], Collection[LeaseKey] | None]


class Row(NamedTuple):
    """A task as it stands, by the names of its columns."""

    id: UUID
    queue: str
    priority: int
    max_attempts: int
    status: Status = Status.PENDING
    run_at: datetime | None = None
    expires_at: datetime | None = None
    ready_at: datetime | None = None
    waiting_for: WaitingFor | None = None
    attempt: int = 0
    attempts_before: int = 0
    crashes: int = 0
    releases: int = 0
    fence: int = 0
    lease_expires_at: datetime | None = None
    worker_id: str = ""
    cancel_requested: bool = False
    finished_at: datetime | None = None
    result: str | None = None
    error_type: str | None = None
    unique_key: str | None = None
    unique_while: str | None = None
    unique_until: datetime | None = None
    unique_fence: int | None = None
    recorded: int = 0  # its rows in attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for."""

    queue: str = "default"
    priority: int = 0
    max_attempts: int = 5
    run_at: datetime | None = None
    expires_at: datetime | None = None
    unique: Unique | None = None


class Desk(Protocol):
    """The verbs, at the time that it is told."""

    now: datetime

    def enqueue(self, wish: Wish) -> UUID: ...
    def claim(self, worker_id: str, *, limit: int, ahead: int = 0) -> list[Lease]: ...
    def extend(self, leases: Collection[Lease]) -> Extension: ...
    def settle(self, outcomes: Sequence[tuple[Lease, Outcome]]) -> Settlement: ...
    def reap(self, *, spared: Collection[UUID], dead: Collection[str], begun_by: BegunBy) -> Settlement: ...
    def asked_to_stop(self, worker_id: str) -> Collection[UUID]: ...
    def cancel(self, ids: Sequence[UUID]) -> Cancellation: ...
    def retry(self, ids: Sequence[UUID], *, run_at: datetime | None = None) -> int: ...
    def run_now(self, id_: UUID) -> Status | None: ...
    def expire(self) -> int: ...
    def rows(self) -> Mapping[UUID, Row]: ...
