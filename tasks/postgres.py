"""What only PostgreSQL needs: an end to every wait, and a bell that rings on other machines."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from django.db import Error, connections

from tasks.conf import config

CHANNEL = "tasks_bell"
RING_EVERY_SECONDS = 0.01  # of one process: a commit costs more than it saves when each of many rings
LIMITS = {
    "connect_timeout": 3,
    "keepalives_idle": 5,  # seconds
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 5_000,  # milliseconds
}
STATEMENT_SECONDS = 10.0
SET_POOLER = "a pooler refuses the time limits that come with a connection; set TASKSERVICE_POOLER=true"

_rang_at: dict[str, float] = {}  # monotonic, for each alias


def is_postgres(alias: str) -> bool:
    return connections[alias].vendor == "postgresql"


def limit_waits(alias: str, *, pooler: bool, statement_seconds: float = STATEMENT_SECONDS) -> None:
    """Of all connections that this process will open; what the settings say already stays.

    Not for executors: how long a handler's query may take is its own affair. ``pooler``: PgBouncer
    refuses timeouts with the connection; there they belong to the role.
    """
    given = connections[alias].settings_dict["OPTIONS"]
    wanted: dict[str, Any] = {**LIMITS} if pooler else {**LIMITS, "options": _timeouts(statement_seconds)}
    given.update({**wanted, **given})


def _timeouts(statement_seconds: float) -> str:
    milliseconds = round(statement_seconds * 1000)
    return f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout=30000"


def ring(alias: str) -> None:
    """After a commit, not with it: inside, it would halve what many writers commit.

    Whoever listens looks twice, so that what is left out here is not missed.
    """
    now = time.monotonic()
    if now - _rang_at.get(alias, -1.0) < RING_EVERY_SECONDS:
        return
    _rang_at[alias] = now
    # a listener that misses it looks by itself a moment later
    with suppress(Error), connections[alias].cursor() as cursor:
        cursor.execute(f"NOTIFY {CHANNEL}")


def lock_was_not_free(error: BaseException) -> bool:
    """Whether ``lock_timeout`` ended the statement: somebody else is still writing what it needs."""
    return _state(error) == "55P03"


def gave_way(error: BaseException) -> bool:
    """Whether it was ended so that another transaction could go on: a deadlock, a serialization failure."""
    return _state(error) in ("40P01", "40001")


def hint(error: BaseException | None) -> str | None:
    """What to set, where a setting is missing."""
    refused = "unsupported startup parameter" in str(error)  # PgBouncer's words; it has no code for it
    return SET_POOLER if refused and not config().pooler else None


def _state(error: BaseException) -> object:
    return getattr(error.__cause__, "sqlstate", None)
