"""Identifiers: time-ordered for tasks, unique per start for workers."""

from __future__ import annotations

import os
import secrets
import socket
from datetime import UTC, datetime
from uuid import UUID

from uuid_utils.compat import uuid7


def new_task_id() -> UUID:
    """A UUID version 7 (RFC 9562): rows land at the end of the index, and ids sort by creation."""
    return uuid7()


def made_at(id_: UUID) -> datetime | None:
    """When a task's id was made, to the millisecond; None for one that is no UUID version 7."""
    return datetime.fromtimestamp((id_.int >> 80) / 1000, UTC) if id_.version == 7 else None


def new_worker_id() -> str:
    """``host:pid:nonce``, never used twice: a restarted worker must not inherit old leases."""
    return f"{socket.gethostname()[:64]}:{os.getpid()}:{secrets.token_hex(4)}"
