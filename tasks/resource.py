"""What goes out, member by member, so that no column becomes public by accident."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tasks.contract import Enqueued
from tasks.models import Attempt, Task
from tasks.pending import Reason, Situation
from tasks.states import Status

Described = Task | Enqueued  # their attributes are called the same


def resource(task: Described, situation: Situation) -> dict[str, Any]:
    """A task as clients see it; the first four members are as old as the service."""
    return {
        "id": str(task.id),
        "title": task.title,
        "status": str(task.status),
        "created_at": time_text(task.created_at),
        "handler": task.handler,
        "queue": task.queue,
        "priority": task.priority,
        "payload": task.payload,
        "tags": list(task.tags),
        "pending_reason": _pending_reason(situation.why(task)),
        "run_at": time_text(task.run_at),
        "expires_at": time_text(task.expires_at),
        "timeout_seconds": _number(task.timeout_seconds),
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "started_at": time_text(task.started_at),
        "finished_at": time_text(task.finished_at),
        "result": task.result,
        "error": task.error,
        "unique_key": task.unique_key,
        "worker": _worker(task),
        "cancel_requested_at": time_text(task.cancel_requested_at),
        "cancel_reason": task.cancel_reason,
    }


def time_text(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC, with all six digits: the same text in every answer, and sorted like the time."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _number(value: float | None) -> float | None:
    return int(value) if value is not None and value.is_integer() else value


def _worker(task: Described) -> dict[str, Any] | None:
    if task.status != Status.PROCESSING:
        return None
    return {"id": task.worker_id, "lease_expires_at": time_text(task.lease_expires_at)}


def _pending_reason(why: Reason | None) -> dict[str, Any] | None:
    if why is None:
        return None
    return {"code": str(why.code), "until": time_text(why.until), "detail": why.detail}


def attempt_resource(attempt: Attempt) -> dict[str, Any]:
    """An attempt that did not succeed."""
    error = {
        "type": attempt.error_type,
        "message": attempt.message,
        "traceback": attempt.traceback,
        "fingerprint": attempt.fingerprint,
    }
    return {
        "number": attempt.number,
        "outcome": attempt.outcome,
        "started_at": time_text(attempt.started_at),
        "ended_at": time_text(attempt.ended_at),
        "worker_id": attempt.worker_id,
        "error": error if attempt.error_type else None,
    }


def latest_attempt(task: Task) -> list[dict[str, Any]]:
    """The attempt that runs or succeeded, which only the task's own row knows of; empty without one."""
    if task.status not in (Status.PROCESSING, Status.COMPLETED):
        return []
    return [
        {
            "number": task.attempt,
            "outcome": "succeeded" if task.status == Status.COMPLETED else None,
            "started_at": time_text(task.attempted_at),
            "ended_at": time_text(task.finished_at),
            "worker_id": task.worker_id,
            "error": None,
        }
    ]
