"""What plain SQL does of the same work: the ceiling that a drain is compared with."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
from django.db import connections, transaction
from django.utils import timezone

from tasks.book import Book
from tasks.models.task import database
from tasks.postgres import arrays
from tasks.sqlite.base import PRAGMAS

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
    with psycopg.connect(**where, autocommit=True) as connection:
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
