"""Finished tasks are not kept for ever."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from tasks.book import Book
from tasks.lifecycle.again import again
from tasks.models.task import database
from tasks.states import Status

PRUNED_AT_ONCE = 200  # so few that claims beside it don't notice


def any_outlived(status: Status, *, before: datetime, now: datetime) -> bool:
    """Whether ``prune`` would find something: a plain read, no transaction."""
    return Book(database()).any_outlived(status, before, now)


@again
def prune(status: Status, *, before: datetime, now: datetime, limit: int = PRUNED_AT_ONCE) -> int:
    """Delete tasks that finished in this status before that time, with their attempts: the oldest first.
    One that still keeps others with its unique key from being made stays.

    Safe on any number of machines: what another one deletes or retries at this moment is passed by.
    Returns how many, up to ``limit``.
    """
    alias = database()
    with transaction.atomic(using=alias, savepoint=False):
        return Book(alias).prune(status, before, now, limit=limit)
