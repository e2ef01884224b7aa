"""Requests that are sent again: what the first came to is kept with it, and given to the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django.db import connections, transaction

from tasks import clock
from tasks.book import Book
from tasks.contract import Kept, Once
from tasks.lifecycle.again import again
from tasks.limits import ROWS_AT_ONCE
from tasks.models.task import database

KEPT_FOR = timedelta(hours=24)
WAIT = timedelta(seconds=4)  # for one with the same key that is not decided yet: less than for a statement


def reserve(asked: Sequence[Once], *, now: datetime, wait: timedelta = WAIT) -> Mapping[Once | None, Kept]:
    """Within a transaction: take the keys, and return what is kept of those that are taken already.

    No key twice. Whoever took a key writes with ``keep`` what came of it, in the same transaction.
    On PostgreSQL it waits for others that have just taken one; ``OperationalError`` after ``wait``.
    """
    alias = database()
    book = Book(alias)
    _bound_the_wait(alias, wait)
    rows = [(*_key(once), once.fingerprint, book.time(now)) for once in sorted(asked)]  # the order of locks
    taken = book.reserve(rows, too_old=now - KEPT_FOR)
    _bound_the_wait(alias, None)  # what it waits for from now on are others' tasks
    others = [once for once in asked if _key(once) not in taken]
    return {once: _kept(book, once, too_old=now - KEPT_FOR) for once in others}


def is_taken(once: Once) -> bool:
    """Whether a request with its key has been decided, so that another makes nothing."""
    alias = database()
    return Book(alias).kept(_key(once), too_old=clock.now(alias) - KEPT_FOR) is not None


def keep(answers: Iterable[tuple[Once, Kept]]) -> None:
    rows = [(kept.status, kept.body, kept.location, *_key(once)) for once, kept in answers]
    if rows:
        Book(database()).keep(rows)


@again
def forget(*, now: datetime, limit: int = ROWS_AT_ONCE) -> int:
    """Delete what has been kept long enough. Returns how many, up to ``limit``."""
    alias = database()
    with transaction.atomic(using=alias, savepoint=False):
        return Book(alias).forget(now - KEPT_FOR, limit=limit)


def _key(once: Once) -> tuple[str, str, str]:
    return once.owner, once.path, once.key


def _kept(book: Book, once: Once, *, too_old: datetime) -> Kept:
    found = book.kept(_key(once), too_old=too_old)
    fingerprint, status, body, location = found or (once.fingerprint, 0, "", "")  # None: just forgotten
    return Kept(fingerprint=fingerprint, status=status, body=body, location=location)


def _bound_the_wait(alias: str, wait: timedelta | None) -> None:
    """For what follows in this transaction; None: as usual."""
    connection = connections[alias]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            limit = "DEFAULT" if wait is None else round(wait.total_seconds() * 1000)
            cursor.execute(f"SET LOCAL lock_timeout = {limit}")
