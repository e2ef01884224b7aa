"""Huey on SQLite, with its own consumer and its three processes."""
# mypy: disable-error-code="import-not-found, untyped-decorator"

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from huey import SqliteHuey

from bench.peers.program import note

POLL_SECONDS = 0.01

# timeout: how long a writer waits for another; with the usual 5 s it might give up
queue = SqliteHuey("bench", filename=os.environ["DB_PATH"], fsync=True, timeout=60)


@queue.task()
def noop() -> int:
    note()
    return 1


@queue.task()
def stamp(number: int) -> int:
    note(number)
    return 1


def install() -> None:
    """The tables were made above."""


def fill(count: int) -> None:
    """One by one: there is no call for many. Not flushed each time, as filling is not measured."""
    quick = SqliteHuey("bench", filename=os.environ["DB_PATH"], fsync=False)
    for _ in range(count):
        quick.storage.enqueue(queue.serialize_task(noop.s()))


def work(ready: Callable[[], None]) -> None:
    consumer = queue.create_consumer(
        workers=3,
        worker_type="process",
        periodic=False,
        initial_delay=POLL_SECONDS,
        max_delay=POLL_SECONDS,
        backoff=1,
    )
    ready()
    consumer.run()


@contextmanager
def enqueuer() -> Iterator[Callable[[int], None]]:
    def enqueue(number: int) -> None:
        stamp(number)

    yield enqueue
