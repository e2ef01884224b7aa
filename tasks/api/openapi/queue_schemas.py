"""Queues and workers as schemas: the rest of ``components.schemas``."""

from __future__ import annotations

from collections.abc import Mapping

from tasks import stats
from tasks.api import queue_views
from tasks.api.openapi import examples
from tasks.api.openapi.checks import TIME, TIME_OR_NULL, Schema
from tasks.api.openapi.schemas import ID, TEXT, WHOLE, object_of, or_null, page_of, ref, said, wished
from tasks.lifecycle.workers import WorkerState
from tasks.rollups import COUNTS

PAUSE_WISHED: Mapping[str, str] = {
    "reason": "Why: told to whoever asks why a task waits; the first one counts."
}
PURGE_WISHED: Mapping[str, str] = {"confirm": "The queue's name, once more."}

TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
WHOLE_OR_NULL: Schema = {"type": ["integer", "null"], "minimum": 0}
SECONDS_OR_NULL: Schema = {"type": ["number", "null"], "minimum": 0}
TEXTS_OR_NULL: Schema = {"type": ["array", "null"], "items": TEXT}

_DEPTH: Mapping[str, Schema] = {
    "pending": said(WHOLE, "Those that are ready and those that wait."),
    "ready": WHOLE,
    "waiting": said(WHOLE, "For a time, or for a worker that knows their handler."),
    "processing": WHOLE,
    "failed": WHOLE,
    "capped": said(
        {"type": "boolean"}, "Counting ended somewhere: of each there are at least so many, and older ones."
    ),
}
_QUEUE: Mapping[str, Schema] = {
    "name": TEXT,
    "depth": object_of(_DEPTH),
    "oldest_ready_seconds": said(SECONDS_OR_NULL, "Since its oldest ready task is ready; null: none is."),
    "last_hour": said(or_null(ref("LastHour")), "What happened in it; null: not for this token."),
    "wait_seconds": said(
        or_null(ref("Typical")), "From ready to claimed, in the last hour; null: none, or not for this token."
    ),
    "run_seconds": said(or_null(ref("Typical")), "Of attempts, in the same way."),
    "workers": said(WHOLE_OR_NULL, "That live and claim from it; null: not for this token."),
    "paused": said(or_null(ref("Paused")), "Null: it is not."),
}
_PAUSED: Mapping[str, Schema] = {
    "at": TIME,
    "by": said(TEXT, "The owner of the token, or who did it elsewhere."),
    "reason": TEXT,
}
_HELD: Mapping[str, Schema] = {
    "id": ID,
    "handler": TEXT,
    "queue": TEXT,
    "since": said(TIME_OR_NULL, "The start of this attempt, or of what it waits behind."),
    "timeout_seconds": said({"type": ["number", "null"]}, "How long it may run; null: without limit."),
    "cancel_requested_at": TIME_OR_NULL,
}
_STATE: Schema = {"type": "string", "enum": list(WorkerState)}
_WORKER: Mapping[str, Schema] = {
    "id": said(TEXT, "It names the host and the process, for whoever may see the worker."),
    "state": said(_STATE, "`draining`: it claims nothing more. `gone`: it was not seen for 30 seconds."),
    "host": TEXT_OR_NULL,
    "pid": WHOLE_OR_NULL,
    "version": said(TEXT_OR_NULL, "Of the code that it runs."),
    "queues": said(TEXTS_OR_NULL, "Those that it serves and this token knows. Null: it serves all."),
    "handlers": said(TEXTS_OR_NULL, "That it knows; null: not for this token."),
    "executors": said(WHOLE, "How many tasks it runs at once."),
    "busy": said(WHOLE_OR_NULL, "Executors that ran one when it was seen last."),
    "memory_mb": said(WHOLE_OR_NULL, "Of all its processes, then."),
    "recycled": said(WHOLE_OR_NULL, "Executors replaced since its start."),
    "started_at": TIME,
    "last_seen_at": TIME,
    "drain_requested_at": TIME_OR_NULL,
    "drain_requested_by": TEXT_OR_NULL,
    "tasks": said(
        {"type": "array", "items": object_of(_HELD)},
        "In its hands, of those that this token may see. All workers of a page together show the "
        f"{stats.HELD_LOOKED_AT:,} whose leases end first, and no more.",
    ),
}


def schemas() -> dict[str, Schema]:
    return {
        "Pause": wished(queue_views.PAUSE, PAUSE_WISHED, examples=[{"reason": "the mail server is down"}]),
        "Purge": wished(
            queue_views.PURGE, PURGE_WISHED, required=["confirm"], examples=[{"confirm": "invoices"}]
        ),
        "Queue": object_of(_QUEUE, examples=[examples.QUEUE]),
        "QueuePage": page_of("Queue", count=ref("Count")),
        "QueueState": object_of({"name": TEXT, "paused": or_null(ref("Paused"))}),
        "Purged": object_of(
            {
                "name": TEXT,
                "cancelled": WHOLE,
                "more": said(
                    {"type": "boolean"}, "Its time was over before all were: ask again, with a new key."
                ),
            }
        ),
        "Paused": object_of(_PAUSED),
        "LastHour": object_of(dict.fromkeys(COUNTS, WHOLE)),
        "Typical": said(
            object_of({"p50": {"type": "number"}, "p95": {"type": "number"}}),
            "The median and the 95th percentile, in seconds, as buckets tell them.",
        ),
        "Worker": object_of(_WORKER, examples=[examples.WORKER]),
        "WorkerPage": page_of("Worker", count=ref("Count")),
        "Drained": object_of(
            {
                "id": TEXT,
                "state": _STATE,
                "drain_requested_at": TIME_OR_NULL,
                "drain_requested_by": TEXT,
            }
        ),
    }
