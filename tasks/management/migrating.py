"""Brings the database up to date; of several processes that start at once, one does it, the others wait."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

from tasks import postgres

LOCK_KEY = 0x7461736B  # "task", as one number among PostgreSQL's advisory locks
POLL_SECONDS = 0.1


def migrate(*, stopping: Callable[[], bool]) -> None:
    """Apply what is missing. Returns early when ``stopping`` says so while another process is at it."""
    connection = connections[DEFAULT_DB_ALIAS]
    try:
        if not _missing(connection):
            return
        with _lock(connection) as locked:
            while not locked():
                if stopping():
                    return
                time.sleep(POLL_SECONDS)
            call_command("migrate", verbosity=0, interactive=False, skip_checks=True)
    finally:
        connections.close_all()


def unusable(error: DatabaseError) -> str:
    """A sentence that names the database, without a password."""
    given = connections[DEFAULT_DB_ALIAS].settings_dict
    name = f"{given['NAME']} on {given['HOST']}" if given.get("HOST") else given["NAME"]
    if hint := postgres.hint(error):
        return f"The database {name} cannot be used: {hint}."
    reason = "; ".join(filter(None, map(str.strip, str(error).splitlines()))).rstrip(".")
    return f"The database {name} cannot be used (see DATABASE_URL, DB_PATH): {reason}."


def _missing(connection: BaseDatabaseWrapper) -> bool:
    executor = MigrationExecutor(connection)
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def _lock(connection: BaseDatabaseWrapper) -> AbstractContextManager[Callable[[], bool]]:
    match connection.vendor:
        case "sqlite":
            return _file_lock(f"{connection.settings_dict['NAME']}-migrate")
        case "postgresql":
            return _advisory_lock(connection)
        case _:
            return nullcontext(lambda: True)


@contextmanager
def _file_lock(path: str) -> Iterator[Callable[[], bool]]:
    with open(path, "w") as file:

        def locked() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        yield locked


@contextmanager
def _advisory_lock(connection: BaseDatabaseWrapper) -> Iterator[Callable[[], bool]]:
    """Of a transaction, on its own connection: a pooler in between would hand one of a session to others."""
    other = connection.copy()

    def locked() -> bool:
        with other.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")  # the role may have one
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK_KEY])
            mine = bool(cursor.fetchone()[0])
        if not mine:
            other.rollback()  # else those who wait would keep a pooler's few connections from the one at it
        return mine

    try:
        other.set_autocommit(False)
        yield locked
    finally:
        other.close()
