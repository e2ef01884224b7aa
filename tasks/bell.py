"""Who commits something that a worker waits for rings; ``worker.wakeup`` listens."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial

from django.db import connections, transaction

from tasks import postgres, redis_bell
from tasks.conf import config
from tasks.sqlite.base import DatabaseWrapper

BELL = "-bell"  # a FIFO beside the SQLite file


def ring_on_commit(alias: str) -> None:
    """Wake the dispatchers once the present transaction is committed; at once outside of one."""
    transaction.on_commit(partial(ring, alias), using=alias)


def ring(alias: str) -> None:
    """Never waits and never fails: a dispatcher that misses it looks by itself a moment later."""
    connection = connections[alias]
    if isinstance(connection, DatabaseWrapper):
        if connection.path:
            _ring_fifo(connection.path + BELL)
    elif postgres.is_postgres(alias):
        if redis_bell.is_chosen(config()):
            redis_bell.ring(config().redis_url, alias)
        else:
            postgres.ring(alias)


def _ring_fifo(path: str) -> None:
    with suppress(OSError):  # ENXIO: nobody listens; EAGAIN: it rings already
        bell = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(bell, b"!")
        finally:
            os.close(bell)
