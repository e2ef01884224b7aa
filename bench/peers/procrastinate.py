"""Procrastinate on PostgreSQL, with coroutines, as its documentation recommends."""
# mypy: disable-error-code="import-not-found, untyped-decorator"

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import batched

import procrastinate

from bench.peers.program import note

CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "10"))
FILLED_AT_ONCE = 1000

app = procrastinate.App(connector=procrastinate.PsycopgConnector(min_size=2, max_size=CONCURRENCY + 2))


@app.task(name="noop")
async def noop() -> int:
    note()
    return 1


@app.task(name="stamp")
async def stamp(number: int) -> int:
    note(number)
    return 1


def install() -> None:
    with app.open():
        app.schema_manager.apply_schema()


def fill(count: int) -> None:
    with app.open():
        for batch in batched(range(count), FILLED_AT_ONCE):
            noop.batch_defer(*({} for _ in batch))


def work(ready: Callable[[], None]) -> None:
    asyncio.run(_work(ready))


async def _work(ready: Callable[[], None]) -> None:
    async with app.open_async():
        ready()
        await app.run_worker_async(concurrency=CONCURRENCY)


@contextmanager
def enqueuer() -> Iterator[Callable[[int], None]]:
    def enqueue(number: int) -> None:
        stamp.defer(number=number)

    with app.open():
        yield enqueue
