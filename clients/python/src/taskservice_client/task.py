"""A task as the service shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

FINISHED = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The members of the same names; ``raw`` has those that a newer service added, too."""

    id: str
    title: str
    status: str  # pending, processing, completed, failed or cancelled
    handler: str
    queue: str
    priority: int
    payload: dict[str, Any]
    tags: list[str]
    pending_reason: dict[str, Any] | None  # code, until and detail: why a pending one does not run yet
    attempt: int
    max_attempts: int
    timeout_seconds: float | None
    created_at: datetime
    run_at: datetime | None
    expires_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    result: Any
    error: dict[str, Any] | None
    unique_key: str | None
    worker: dict[str, Any] | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    raw: Mapping[str, Any]

    @property
    def deduplicated(self) -> bool:
        """Whether ``create`` found it: it has the unique key that was asked for."""
        return bool(self.raw.get("deduplicated", False))

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Task:
        given = {field.name: value[field.name] for field in fields(cls) if field.name != "raw"}
        times = {name: _time(text) for name, text in given.items() if name.endswith("_at")}
        return cls(**{**given, **times, "raw": value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One run of a task: that which runs or succeeded, or one that did not succeed."""

    number: int  # from 1
    outcome: str | None  # None: it runs
    started_at: datetime | None
    ended_at: datetime | None
    worker_id: str
    error: dict[str, str] | None  # type, message and traceback

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Attempt:
        given = {field.name: value[field.name] for field in fields(cls)}
        times = {name: _time(text) for name, text in given.items() if name.endswith("_at")}
        return cls(**{**given, **times})


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
