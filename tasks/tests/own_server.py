"""A queue on a server of the test's own, which may be stopped, and reached in ways that fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.conf import settings
from django.db import connections
from psycopg import sql

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models import Task
from tasks.models.task import database
from tasks.states import Status
from tasks.tests.databases import without_database
from tasks.tests.postgres import Postgres, postgres

EMPTY = "tasks"

# What no row can tell any more: each change of a status, with the fence under which it was written.
RECORD = """
    CREATE TABLE changes (id bigserial PRIMARY KEY, task_id uuid, fence bigint, status text);
    CREATE FUNCTION record_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO changes (task_id, fence, status) VALUES (NEW.id, NEW.fence, NEW.status);
            RETURN NULL;
        END
    $$;
    CREATE TRIGGER record AFTER UPDATE ON tasks FOR EACH ROW
        WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION record_change();
"""


@contextmanager
def server_with_tables(*addresses: str) -> Iterator[Postgres]:
    """On these addresses too; for ``queue_on``."""
    with postgres(addresses=addresses) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {EMPTY}")
        env = without_database(dict(os.environ)) | {"DATABASE_URL": server.url(EMPTY)}
        migrate = [sys.executable, "manage.py", "migrate", "-v", "0"]
        subprocess.run(migrate, cwd=settings.BASE_DIR, env=env, check=True)
        with psycopg.connect(server.url(EMPTY)) as connection:
            connection.execute(RECORD)
        yield server


@contextmanager
def queue_on(server: Postgres) -> Iterator[str]:
    """The name of a new database, to which this process's own connection leads meanwhile."""
    name = f"queue_{uuid4().hex}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(EMPTY)))
    given = connections[database()].settings_dict
    before = {key: given[key] for key in ("HOST", "PORT", "NAME")}
    reconnect()
    given.update(HOST=str(server.folder), PORT="", NAME=name)
    try:
        yield name
    finally:
        reconnect()
        given.update(before)


def reconnect() -> None:
    """The server has gone, and is back."""
    connections[database()].close()


def enqueue_many(count: int, handler: str, **payload: Any) -> None:
    lifecycle.enqueue([TaskSpec(handler=handler, payload=payload) for _ in range(count)])


def completed() -> int:
    return Task.objects.filter(status=Status.COMPLETED).count()


def assert_each_completed_once() -> None:
    """By the newest claim, and nothing was written afterwards."""
    with connections[database()].cursor() as cursor:
        cursor.execute("SELECT task_id, fence, status FROM changes ORDER BY id")
        changes = cursor.fetchall()
    of_each: dict[Any, list[tuple[int, str]]] = {}
    for task_id, fence, status in changes:
        of_each.setdefault(task_id, []).append((fence, status))
    for task in Task.objects.only("status", "fence"):
        told = of_each[task.pk]
        assert [status for _, status in told].count("completed") == 1, told
        assert told[-1] == (task.fence, "completed"), told
        assert task.fence == max(fence for fence, _ in told)


def terminate_all(name: str) -> int:
    """Every session of the others, as by an administrator. Returns how many there were."""
    with psycopg.connect(_own_url(name), autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND pid <> pg_backend_pid()",
            [name],
        ).fetchall()
    reconnect()
    return len(ended)


def _own_url(name: str) -> str:
    given = connections[database()].settings_dict
    assert given["NAME"] == name
    return f"host={given['HOST']} user=postgres dbname={name}"


@pytest.fixture(scope="module")
def own_server() -> Iterator[Postgres]:
    with server_with_tables() as server:
        yield server
