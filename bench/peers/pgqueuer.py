"""PgQueuer on PostgreSQL, with asyncpg, as its documentation begins; BENCH_BATCH is the batch size."""
# mypy: disable-error-code="import-not-found, untyped-decorator"

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import batched
from typing import Any

import asyncpg
import psycopg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, SyncPsycopgDriver
from pgqueuer.queries import Queries, SyncQueries

from bench.peers.program import note

FILLED_AT_ONCE = 1000


def install() -> None:
    uvloop.run(_install())


async def _install() -> None:
    """As ``pgq install`` and ``pgq autovac`` do."""
    queries = Queries(AsyncpgDriver(await asyncpg.connect()))
    await queries.install()
    await queries.optimize_autovacuum()


def fill(count: int) -> None:
    uvloop.run(_fill(count))


async def _fill(count: int) -> None:
    queries = Queries(AsyncpgDriver(await asyncpg.connect()))
    for batch in batched(range(count), FILLED_AT_ONCE):
        size = len(batch)
        await queries.enqueue(["noop"] * size, [None] * size, [0] * size)


def work(ready: Callable[[], None]) -> None:
    uvloop.run(_work(ready))


async def _work(ready: Callable[[], None]) -> None:
    queue = PgQueuer.from_asyncpg_connection(await asyncpg.connect())

    @queue.entrypoint("noop")
    async def noop(job: Any) -> None:
        note()

    @queue.entrypoint("stamp")
    async def stamp(job: Any) -> None:
        note(int(job.payload))

    ready()
    await queue.run(batch_size=int(os.environ["BENCH_BATCH"]))


@contextmanager
def enqueuer() -> Iterator[Callable[[int], None]]:
    with psycopg.connect(autocommit=True) as connection:
        queries = SyncQueries(SyncPsycopgDriver(connection))

        def enqueue(number: int) -> None:
            queries.enqueue("stamp", str(number).encode())

        yield enqueue
