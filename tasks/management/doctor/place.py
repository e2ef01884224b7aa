"""Where tasks are kept: can it be used, is it up to date, is there room, do the clocks agree?"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from tasks import postgres
from tasks.conf import config
from tasks.management.doctor.finding import ERROR, WARNING, Finding
from tasks.management.migrating import unusable
from tasks.models.task import database
from tasks.spans import span
from tasks.sqlite.base import DatabaseWrapper

STOPS = {
    "database-missing",
    "database-unusable",
    "database-damaged",
    "unmigrated",
}  # nothing else can be looked at then
LARGE_WAL_BYTES = 256 * 2**20
FULL_BYTES, NEARLY_FULL = 200 * 2**20, 0.05
SKEW_SECONDS = 2.0
LOOK_SECONDS, PROGRESS_STEPS = 10.0, 100_000  # of SQLite's machine, between two looks at the clock
LONG = timedelta(minutes=5)

# Whoever is in one, or has prepared one and not come back; other sessions' as far as this role may see them.
OPEN_TRANSACTIONS = """
SELECT concat_ws(' ', 'Session', pid, usename, NULLIF(application_name, '')), now() - xact_start,
  format('SELECT pg_terminate_backend(%%s)', pid)
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
  AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND xact_start < now() - make_interval(secs => %s)
UNION ALL
SELECT format('The prepared transaction %%L', gid), now() - prepared, format('ROLLBACK PREPARED %%L', gid)
FROM pg_prepared_xacts WHERE database = current_database() AND prepared < now() - make_interval(secs => %s)
ORDER BY 2 DESC LIMIT 5
"""


def look() -> Iterator[Finding]:
    """Raises DatabaseError where it does not answer."""
    connection = connections[database()]
    if isinstance(connection, DatabaseWrapper):
        if not os.path.exists(connection.path):
            yield _missing(connection.path)
            return
        yield from _disk(connection.path)
        yield from _wal(connection.path)
        yield from _damage(connection)
    elif postgres.is_postgres(database()):
        # as a worker does: what a pooler refuses there, it shall refuse here
        postgres.limit_waits(database(), pooler=config().pooler)
        yield from _skew()
        yield from _long_transactions()
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


def _damage(connection: DatabaseWrapper) -> Iterator[Finding]:
    """As far as it can be looked at in a few seconds."""
    connection.ensure_connection()
    until = time.monotonic() + LOOK_SECONDS
    connection.connection.set_progress_handler(lambda: time.monotonic() > until, PROGRESS_STEPS)
    try:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA integrity_check(1)")
            [said] = cursor.fetchone()
    except DatabaseError as error:
        if time.monotonic() > until:  # it is large
            return
        said = str(error)
    finally:
        connection.connection.set_progress_handler(None, 0)
    if said != "ok":
        yield Finding(
            ERROR,
            "database-damaged",
            f"{connection.path} is damaged: {said.splitlines()[-1]}.",
            "Stop everything, keep the file, restore a backup, and look for what damaged it, such as a disk.",
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


def _long_transactions() -> Iterator[Finding]:
    with connections[database()].cursor() as cursor:
        cursor.execute(OPEN_TRANSACTIONS, [LONG.total_seconds()] * 2)
        for name, since, end in cursor.fetchall():
            yield Finding(
                WARNING,
                "transaction-open",
                f"{name} has been in a transaction for {span(since)}: what workers are done with "
                "cannot be cleared away meanwhile, and claims get slower.",
                f"Let it end: {end}.",
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
