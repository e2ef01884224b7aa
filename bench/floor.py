"""What plain SQL does of the same work: the ceiling that a drain is compared with."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.db import connections, transaction
from django.utils import timezone

from tasks.book import Book
from tasks.ids import new_task_id
from tasks.models.task import database
from tasks.postgres import arrays
from tasks.sqlite.base import PRAGMAS
from tasks.statements import INSERTED

Params = tuple[Any, ...]
Statement = tuple[str, Params]
RESULT = "1"


def drained(size: int) -> tuple[int, float]:
    """Drain the database in one process: complete a batch and claim the next in one durable transaction.

    The statements are those that the service runs, as it runs them; no Django, no gate, no handlers.
    Returns how many were completed, and in how many seconds.
    """
    claim, complete = _recorded(size)
    settings = connections[database()].get_connection_params()
    connections.close_all()
    if connections[database()].vendor == "postgresql":
        return _on_postgres(settings, claim, complete)
    return _on_sqlite(str(settings["database"]), claim, complete)


def inserted(commits: int, size: int) -> float:
    """Rows per second, in durable commits of ``size``: no HTTP, no checks, no answers."""
    alias = database()
    now = timezone.now()
    book = Book(alias)
    began = time.perf_counter()
    for _ in range(commits):
        with transaction.atomic(using=alias):
            book.insert([_new_row(book, now) for _ in range(size)])
    return commits * size / (time.perf_counter() - began)


def _new_row(book: Book, now: datetime) -> Params:
    """In the order of ``INSERTED``, of a task that asks for nothing but to be run."""
    given = {"id": book.id(new_task_id()), "title": "bench", "handler": "bench.noop", "args": "[]"}
    given |= {"payload": '{"n":1}', "owner": "", "queue": "default", "priority": 0, "tags": "[]"}
    given |= {"max_attempts": 5, "timeout_seconds": 300.0, "created_at": book.time(now)}
    given |= {"ready_at": book.time(now)}
    return tuple(given.get(name) for name in INSERTED)


def _on_sqlite(path: str, claim: Statement, complete: Statement) -> tuple[int, float]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in PRAGMAS:
            connection.execute(pragma)
        statements = _with_marks(claim), _with_marks(complete)
        return _drain(connection.execute, "BEGIN IMMEDIATE", *statements, _padded)


def _with_marks(statement: Statement) -> Statement:
    sql, params = statement
    return sql.replace("%s", "?"), params


def _on_postgres(settings: dict[str, Any], claim: Statement, complete: Statement) -> tuple[int, float]:
    where = {name: settings[name] for name in ("host", "user", "dbname")}
    # planned each time, as the service does with batches: see ``tasks.postgres.plan_anew``
    with psycopg.connect(**where, autocommit=True, prepare_threshold=None) as connection:
        return _drain(connection.execute, "BEGIN", claim, complete, _in_arrays)


def _drain(
    execute: Callable[..., Any],
    begin: str,
    claim: Statement,
    complete: Statement,
    given: Callable[[Params, list[Any]], list[Any]],
) -> tuple[int, float]:
    began = time.perf_counter()
    done = 0
    held: list[Any] = []
    while True:
        execute(begin)
        if held:
            done += len(execute(complete[0], given(complete[1], held)).fetchall())
        held = execute(*claim).fetchall()
        execute("COMMIT")
        if not held:
            return done, time.perf_counter() - began


def _padded(params: Params, rows: list[Any]) -> list[Any]:
    """The parameters of a completion for these rows: it ends with the time, and is padded with nulls."""
    given = [value for id_, fence, *_ in rows for value in (id_, fence, RESULT)]
    return [*given, *[None] * (len(params) - 1 - len(given)), params[-1]]


def _in_arrays(params: Params, rows: list[Any]) -> list[Any]:
    return [*arrays([(id_, fence, RESULT) for id_, fence, *_ in rows]), params[-1]]


def _recorded(size: int) -> tuple[Statement, Statement]:
    """The claim and the completion of so many tasks, as they reach the database; they are rolled back."""
    book, now = Book(database()), timezone.now()
    with transaction.atomic(using=database()):
        [claim], rows = _heard(
            lambda: book.claim(
                "default",
                ["bench.noop"],
                worker_id="bench",
                now=now,
                lease_expires_at=now + timedelta(minutes=5),
                limit=size,
            )
        )
        held = [(id_, fence, RESULT) for id_, fence, *_ in rows]
        [complete], _ = _heard(lambda: book.complete(held, now))
        transaction.set_rollback(True, using=database())
    return claim, complete


def _heard[T](act: Callable[[], T]) -> tuple[list[Statement], T]:
    heard: list[Statement] = []

    def hear(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        heard.append((sql, tuple(params)))
        return execute(sql, params, many, context)

    with connections[database()].execute_wrapper(hear):
        answer = act()
    return heard, answer
