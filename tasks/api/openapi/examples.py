"""One task's story, told in examples: made, running, failed; and what is said about it."""

from __future__ import annotations

from typing import Any

TASK_ID = "01a20be6-9205-778d-b63c-2a5e1c2d9ee4"
TOKEN_ID = "01a20bcf-958e-766c-8076-373a84ef31ff"  # noqa: S105 - an id, no secret
WORKER_ID = "host-1:4711:9f3c"
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
ETAG = '"5bd1e995f0a3c7d24e8b9c10"'
EVENT_ID = "9f2c4be0a17d53c68e01b2f4"
CURSOR = "WyJsdCIsIjAxYTIwYmU2Il0:c2lnbmVk"

WISH: dict[str, Any] = {
    "title": "Send the January invoices",
    "handler": "demo.echo",
    "payload": {"month": "2026-01"},
    "priority": 5,
    "tags": ["invoices"],
    "max_attempts": 3,
}
PENDING: dict[str, Any] = {
    "id": TASK_ID,
    "title": "Send the January invoices",
    "status": "pending",
    "created_at": "2026-01-31T04:53:09.765917Z",
    "handler": "demo.echo",
    "queue": "default",
    "priority": 5,
    "payload": {"month": "2026-01"},
    "tags": ["invoices"],
    "pending_reason": {"code": "ready", "until": None, "detail": "waits for a free worker"},
    "run_at": None,
    "expires_at": None,
    "timeout_seconds": 300,
    "attempt": 0,
    "max_attempts": 3,
    "started_at": None,
    "finished_at": None,
    "result": None,
    "error": None,
    "unique_key": None,
    "worker": None,
    "cancel_requested_at": None,
    "cancel_reason": None,
}
DEDUPLICATED = PENDING | {"unique_key": "invoices-2026-01", "deduplicated": True}
PROCESSING = PENDING | {
    "status": "processing",
    "pending_reason": None,
    "attempt": 1,
    "started_at": "2026-01-31T04:53:09.784706Z",
    "worker": {"id": "host-1:4711:9f3c", "lease_expires_at": "2026-01-31T04:53:39.784706Z"},
}
STOPPING = PROCESSING | {
    "cancel_requested_at": "2026-01-31T04:53:12.000201Z",
    "cancel_reason": "not needed",
}
COMPLETED = PROCESSING | {
    "status": "completed",
    "finished_at": "2026-01-31T04:53:09.801149Z",
    "result": {"month": "2026-01"},
    "worker": None,
}
ERROR = {"type": "builtins.ConnectionError", "message": "the mail server does not answer"}
FAILED = COMPLETED | {"status": "failed", "attempt": 3, "result": None, "error": {**ERROR, "attempt": 3}}
CANCELLED = PENDING | {
    "status": "cancelled",
    "pending_reason": None,
    "finished_at": "2026-01-31T04:53:12.000201Z",
    "error": {
        "type": "tasks.errors.TaskCancelled",
        "message": "Cancelled while it was pending.",
        "attempt": None,
    },
}

ATTEMPT: dict[str, Any] = {
    "number": 1,
    "outcome": "failed",
    "started_at": "2026-01-31T04:53:09.784706Z",
    "ended_at": "2026-01-31T04:53:09.801149Z",
    "worker_id": "host-1:4711:9f3c",
    "error": {
        **ERROR,
        "traceback": "Traceback (most recent call last):\n  …",
        "fingerprint": "9f2c4e07b1d85a36",
    },
}
TOKEN: dict[str, Any] = {
    "id": TOKEN_ID,
    "name": "billing",
    "owner": "billing",
    "prefix": "tsk_x8Kd2mQw",
    "scopes": ["tasks:create", "tasks:read"],
    "queues": ["invoices"],
    "created_at": "2026-01-12T01:37:19.123456Z",
    "expires_at": "2027-01-01T00:00:00.000000Z",
    "used_at": None,
}
PAUSED: dict[str, Any] = {
    "at": "2026-01-31T04:50:00.000000Z",
    "by": "billing",
    "reason": "the mail server is down",
}
QUEUE: dict[str, Any] = {
    "name": "invoices",
    "depth": {"pending": 42, "ready": 40, "waiting": 2, "processing": 0, "failed": 3, "capped": False},
    "oldest_ready_seconds": 189.766,
    "last_hour": {
        "created": 610,
        "claimed": 575,
        "completed": 565,
        "failed": 3,
        "retried": 4,
        "cancelled": 0,
    },
    "wait_seconds": {"p50": 0.018, "p95": 0.41},
    "run_seconds": {"p50": 1.75, "p95": 2.425},
    "workers": 2,
    "paused": PAUSED,
}
WORKER: dict[str, Any] = {
    "id": WORKER_ID,
    "state": "alive",
    "host": "host-1",
    "pid": 4711,
    "version": "2026.1",
    "queues": None,
    "handlers": ["demo.echo", "demo.sleep"],
    "executors": 4,
    "busy": 1,
    "memory_mb": 210,
    "recycled": 0,
    "started_at": "2026-01-31T01:00:00.000000Z",
    "last_seen_at": "2026-01-31T04:53:05.120034Z",
    "drain_requested_at": None,
    "drain_requested_by": "",
    "tasks": [
        {
            "id": TASK_ID,
            "handler": "demo.echo",
            "queue": "default",
            "since": "2026-01-31T04:53:09.784706Z",
            "timeout_seconds": 300,
            "cancel_requested_at": None,
        }
    ],
}
DRAINED: dict[str, Any] = {
    "id": WORKER_ID,
    "state": "draining",
    "drain_requested_at": "2026-01-31T04:55:00.000000Z",
    "drain_requested_by": "billing",
}
EVENTS = (
    "retry: 3000\n\n"
    f'event: status\nid: {EVENT_ID}\ndata: {{"id":"{TASK_ID}","status":"processing",…}}\n\n'
    ": ping\n\n"
)


def page(item: dict[str, Any], path: str) -> dict[str, Any]:
    return {"items": [item], "next": f"{path}?limit=50&cursor={CURSOR}", "previous": None}
