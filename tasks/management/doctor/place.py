"""Where tasks are kept: can it be used, is it up to date, is there room, do the clocks agree?"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from tasks import postgres
from tasks.conf import config
from tasks.management.doctor.finding import ERROR, WARNING, Finding
from tasks.management.migrating import unusable
from tasks.models.task import database
from tasks.sqlite.base import DatabaseWrapper

STOPS = {"database-missing", "database-unusable", "unmigrated"}  # nothing else can be looked at then
LARGE_WAL_BYTES = 256 * 2**20
FULL_BYTES, NEARLY_FULL = 200 * 2**20, 0.05
SKEW_SECONDS = 2.0


def look() -> Iterator[Finding]:
    """Raises DatabaseError where it does not answer."""
    connection = connections[database()]
    if isinstance(connection, DatabaseWrapper):
        if not os.path.exists(connection.path):
            yield _missing(connection.path)
            return
        yield from _disk(connection.path)
        yield from _wal(connection.path)
    elif postgres.is_postgres(database()):
        # as a worker does: what a pooler refuses there, it shall refuse here
        postgres.limit_waits(database(), pooler=config().pooler)
        yield from _skew()
    yield from _migrations()


def unusable_database(error: DatabaseError) -> Finding:
    do = "Start the database, or correct DATABASE_URL or DB_PATH."
    if hint := postgres.hint(error):
        do = f"{hint[0].upper()}{hint[1:]}."
    return Finding(ERROR, "database-unusable", unusable(error), do)


def _missing(path: str) -> Finding:
    do = "Run `manage.py migrate`, or correct DATABASE_URL or DB_PATH."
    return Finding(ERROR, "database-missing", f"There is no database {path}.", do)


def _disk(path: str) -> Iterator[Finding]:
    usage = shutil.disk_usage(os.path.dirname(os.path.abspath(path)))
    full = usage.free < FULL_BYTES
    if full or usage.free < NEARLY_FULL * usage.total:
        yield Finding(
            ERROR if full else WARNING,
            "disk-full",
            f"The disk of {path} has only {usage.free / 1e6:,.0f} MB free.",
            "Make room, or keep finished tasks for less long (TASKSERVICE_KEEP_COMPLETED_DAYS and its like).",
        )


def _wal(path: str) -> Iterator[Finding]:
    size = os.path.getsize(f"{path}-wal") if os.path.exists(f"{path}-wal") else 0
    if size > LARGE_WAL_BYTES:
        yield Finding(
            WARNING,
            "wal-large",
            f"{path}-wal has {size / 1e6:,.0f} MB: nobody writes it back.",
            "See that a worker runs; if one does, a program stays in a read transaction: "
            "sqlite.wal-pinned in the log names it.",
        )


def _skew() -> Iterator[Finding]:
    """Between this host and the server, as far as the way there allows to tell."""
    with connections[database()].cursor() as cursor:
        cursor.execute("SELECT 1")  # connected
        before, began = datetime.now(UTC), time.monotonic()
        cursor.execute("SELECT clock_timestamp()")
        [theirs] = cursor.fetchone()
        took = time.monotonic() - began
    skew = abs((theirs - before).total_seconds() - took / 2)
    if skew > SKEW_SECONDS + took:
        yield Finding(
            WARNING,
            "clock-skew",
            f"The clocks of this host and of the database are {skew:.0f} s apart.",
            "Let NTP set the clock of each host: the log and the order of lists go by it, leases do not.",
        )


def _migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connections[database()])
    if plan := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan[:5])
        yield Finding(
            ERROR,
            "unmigrated",
            f"{len(plan)} migrations are not applied: {names}{', …' if len(plan) > 5 else ''}.",
            "Run `manage.py migrate`.",
        )
