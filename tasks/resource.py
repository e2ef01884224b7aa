"""What goes out, member by member, so that no column becomes public by accident."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from tasks.contract import Enqueued
from tasks.lifecycle.workers import state_of
from tasks.models import Attempt, Queue, Task, Worker
from tasks.pending import Reason, Situation
from tasks.queues import Standing
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


def seconds_since(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else round(max(0.0, (now - moment).total_seconds()), 3)


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


def queue_resource(standing: Standing, now: datetime) -> dict[str, Any]:
    """What is told of other owners' tasks, too, is null where only one owner's are counted."""
    depth, limit, whole = standing.depth, standing.limit, standing.whole
    return {
        "name": standing.name,
        "depth": {
            "pending": min(depth.ready, limit) + min(depth.waiting, limit),
            "ready": min(depth.ready, limit),
            "waiting": min(depth.waiting, limit),
            "processing": min(depth.processing, limit),
            "failed": min(depth.failed, limit),
            "capped": standing.capped,
        },
        "oldest_ready_seconds": seconds_since(depth.oldest_ready_at, now),
        "last_hour": standing.last_hour._asdict() if whole else None,
        "wait_seconds": _typical(standing.waits),
        "run_seconds": _typical(standing.runs),
        "workers": standing.workers if whole else None,
        "paused": paused_resource(standing.paused),
    }


def _typical(seconds: Sequence[float]) -> dict[str, float] | None:
    return dict(zip(("p50", "p95"), (round(one, 6) for one in seconds), strict=True)) if seconds else None


def paused_resource(queue: Queue | None) -> dict[str, Any] | None:
    if queue is None or queue.paused_at is None:
        return None
    return {"at": time_text(queue.paused_at), "by": queue.paused_by, "reason": queue.pause_reason}


def worker_resource(
    worker: Worker, tasks: Sequence[Task], *, now: datetime, whole: bool, only: Collection[str] | None
) -> dict[str, Any]:
    """``tasks``: those in its hands that may be told of. ``only``: so may these queues alone.

    Where it is not ``whole``, what is the operators' own is null.
    """
    queues = worker.queues
    return {
        "id": worker.pk,
        "state": str(state_of(worker, now=now)),
        "host": worker.host if whole else None,
        "pid": worker.pid if whole else None,
        "version": worker.version if whole else None,
        "queues": queues if queues is None or only is None else [name for name in queues if name in only],
        "handlers": worker.handlers if whole else None,
        "executors": worker.executors,
        "busy": worker.busy if whole else None,
        "memory_mb": worker.memory_mb if whole else None,
        "recycled": worker.recycled if whole else None,
        "started_at": time_text(worker.started_at),
        "last_seen_at": time_text(worker.last_seen_at),
        "drain_requested_at": time_text(worker.drain_requested_at),
        "drain_requested_by": worker.drain_requested_by if whole else None,
        "tasks": [_held(task) for task in tasks],
    }


def _held(task: Task) -> dict[str, Any]:
    return {
        "id": str(task.pk),
        "handler": task.handler,
        "queue": task.queue,
        "since": time_text(task.attempted_at),
        "timeout_seconds": _number(task.timeout_seconds),
        "cancel_requested_at": time_text(task.cancel_requested_at),
    }
