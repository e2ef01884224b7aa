"""What plain sqlite3 does of the same work: the ceiling that a drain is compared with."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connections
from django.utils import timezone

from tasks.book import Book
from tasks.models.task import database
from tasks.sqlite.base import PRAGMAS

Statement = tuple[str, tuple[Any, ...]]
RESULT = "1"


def tasks_per_second(size: int) -> float:
    """Drain the database in one process: complete a batch and claim the next in one durable transaction.

    The statements are those that the service runs, as it runs them; no Django, no gate, no handlers.
    """
    claim, complete = _recorded(size)
    path = str(connections[database()].settings_dict["NAME"])
    connections.close_all()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in PRAGMAS:
            connection.execute(pragma)
        began = time.perf_counter()
        done = _drain(connection, claim, complete)
        return done / (time.perf_counter() - began)


def _drain(connection: sqlite3.Connection, claim: Statement, complete: Statement) -> int:
    done = 0
    held: list[Any] = []
    while True:
        connection.execute("BEGIN IMMEDIATE")
        if held:
            done += len(connection.execute(complete[0], _filled(complete[1], held)).fetchall())
        held = connection.execute(*claim).fetchall()
        connection.execute("COMMIT")
        if not held:
            return done


def _filled(params: tuple[Any, ...], rows: list[Any]) -> list[Any]:
    """The parameters of a completion for these rows: it ends with the time, and is padded with nulls."""
    given = [value for id_, fence, *_ in rows for value in (id_, fence, RESULT)]
    return [*given, *[None] * (len(params) - 1 - len(given)), params[-1]]


def _recorded(size: int) -> tuple[Statement, Statement]:
    """The claim and the completion of so many tasks, as they reach the database."""
    book, now = Book(database()), timezone.now()
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
    held = [(book.id(UUID(id_)), fence, RESULT) for id_, fence, *_ in rows]
    [complete], _ = _heard(lambda: book.complete(held, now))
    return claim, complete


def _heard[T](act: Callable[[], T]) -> tuple[list[Statement], T]:
    heard: list[Statement] = []

    def hear(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        heard.append((sql.replace("%s", "?"), tuple(params)))
        return execute(sql, params, many, context)

    with connections[database()].execute_wrapper(hear):
        answer = act()
    return heard, answer
