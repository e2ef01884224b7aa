"""How long names may be, and how much there may be of a thing: the same for every way in."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

TITLE_CHARS = 1_000
REASON_CHARS = 1_000  # for a cancel
PAUSE_REASON_CHARS = 200
HANDLER_CHARS = 255
TAGS = 20
TAG_CHARS = 64
OWNER_CHARS = 64
QUEUES = 100  # that a token may name
MAX_ATTEMPTS = 1_000
CHANGEABLE = frozenset(  # of a task that has not begun
    {
        *("title", "queue", "priority", "payload", "tags", "run_at", "expires_at", "max_attempts"),
        "timeout_seconds",
    }
)
BATCH_TASKS = 1_000  # made by one request
ROWS_AT_ONCE = 500  # moved by one transaction, so that nobody waits long for the write lock
MIN_TIMEOUT = timedelta(milliseconds=1)
MAX_TIMEOUT = timedelta(seconds=1_000_000)  # more than 11 days

QUEUE_RULE = "must be 1 to 64 of A-Z a-z 0-9 . _ : -"
QUEUE_PATTERN = "[A-Za-z0-9._:-]{1,64}"
_QUEUE = re.compile(QUEUE_PATTERN)


def is_queue_name(text: str) -> bool:
    """Whether a queue can be called so; ``QUEUE_RULE`` says it in words."""
    return _QUEUE.fullmatch(text) is not None


def expires_too_soon(run_at: datetime | None, expires_at: datetime | None) -> bool:
    """Whether a task could never start."""
    return run_at is not None and expires_at is not None and expires_at <= run_at
