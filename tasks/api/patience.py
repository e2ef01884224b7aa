"""Requests that would wait for a task: which they are, and the threads in which they may."""

from __future__ import annotations

import re
import threading

WAITERS = 100  # of one process; whoever comes when all wait is answered at once
THREADS = "waiter"  # what the names of their threads begin with

_WANTS = re.compile(rb"\r\nprefer:[^\r\n]*\bwait[ \t]*=", re.IGNORECASE)
_EVENTS = re.compile(rb"GET /tasks/[^/ ]+/events[ ?]")


def wants_to_wait(request: bytes) -> bool:
    """Whether it should have one of those threads, by its first bytes."""
    return _WANTS.search(request) is not None or _EVENTS.match(request) is not None


def is_waiter() -> bool:
    """Whether this thread is one of them: another would keep other requests from being answered."""
    return threading.current_thread().name.startswith(THREADS)
