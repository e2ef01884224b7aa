"""django-tasks-db, with its own ``db_worker``, on either database."""
# mypy: disable-error-code="import-not-found, untyped-decorator"

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from django.tasks import task

from bench.peers.program import note

POLL_SECONDS = 0.05


def database() -> dict[str, Any]:
    """A connection that stays: the worker would otherwise open one for each task."""
    if name := os.environ.get("PGDATABASE"):
        where = {"HOST": os.environ["PGHOST"], "USER": os.environ["PGUSER"], "NAME": name}
        return {"ENGINE": "django.db.backends.postgresql", **where, "CONN_MAX_AGE": None}
    options = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
        "transaction_mode": "IMMEDIATE",
        "timeout": 60,
    }
    file = os.environ["DB_PATH"]
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": file, "OPTIONS": options, "CONN_MAX_AGE": None}


settings.configure(
    DATABASES={"default": database()},
    INSTALLED_APPS=["django_tasks_db"],
    TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": ["default"]}},
    USE_TZ=True,
)
django.setup()


@task
def noop() -> int:
    note()
    return 1


@task
def stamp(number: int) -> int:
    note(number)
    return 1


def install() -> None:
    call_command("migrate", verbosity=0)


def fill(count: int) -> None:
    with transaction.atomic():
        for _ in range(count):
            noop.enqueue()


def work(ready: Callable[[], None]) -> None:
    connection.ensure_connection()
    ready()
    call_command("db_worker", interval=POLL_SECONDS, startup_delay=False, reload=False, verbosity=0)


@contextmanager
def enqueuer() -> Iterator[Callable[[int], None]]:
    def enqueue(number: int) -> None:
        stamp.enqueue(number)

    connection.ensure_connection()
    yield enqueue
