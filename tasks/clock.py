"""Now: the database's clock where several machines share it, the process's on SQLite."""

from __future__ import annotations

from datetime import datetime

from django.db import connections
from django.utils import timezone


def now(alias: str) -> datetime:
    """The present time, aware, in UTC. On PostgreSQL that of the transaction's start."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        return cursor.fetchone()[0]  # type: ignore[no-any-return]  # a row is untyped
