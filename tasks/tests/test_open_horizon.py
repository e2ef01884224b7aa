"""A transaction that stays open: PostgreSQL clears nothing away, and claims walk past what is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connections, transaction

from tasks import lifecycle
from tasks.contract import Lease, Outcome, Succeeded, TaskSpec
from tasks.models.task import database
from tasks.tests.databases import named
from tasks.tests.ledgers import ledger
from tasks.tests.workers import wait_until
from tasks.worker.ledger import Ledger, Wish

__all__ = ["ledger"]

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

TASKS = 6_000
STEP = 1_500
DONE_PER_BLOCK = 12  # tasks that were done meanwhile, for each block that a claim touches: 35 at present
FEW_BLOCKS = 120


@contextmanager
def open_transaction() -> Iterator[None]:
    """It has looked at something, and sees that for as long as it is open."""
    with closing(psycopg.connect(named(str(connections[database()].settings_dict["NAME"])))) as somebody:
        somebody.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        somebody.execute("SELECT count(*) FROM queues")
        yield


OTHERS = """
SELECT backend_type, state, query FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL
"""


def wait_until_nobody_looks() -> None:
    """Autovacuum may: while it counts the rows of a table, it keeps what was there."""

    def others() -> list[Any]:
        with connections[database()].cursor() as cursor:
            cursor.execute(OTHERS)
            return list(cursor.fetchall())

    wait_until(lambda: not others(), f"nobody else holds the horizon: {others()}")


def drain(ledger: Ledger, count: int) -> None:
    outcomes: list[tuple[Lease, Outcome]] = []
    done = 0
    while done < count:
        turned = ledger.turn(Wish(outcomes, idle=2, ahead=58))
        outcomes = [(lease, Succeeded("null")) for lease in turned.leases]
        done += len(outcomes)
    ledger.turn(Wish(outcomes))


def blocks_of_a_claim(ledger: Ledger) -> int:
    """Of table and indexes, read or found in memory, to take three tasks; it is taken back."""
    asked: list[tuple[str, Any]] = []

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        asked.append((sql, params))
        return execute(sql, params, many, context)

    connection = connections[database()]
    with transaction.atomic(database()), connection.execute_wrapper(note):
        assert len(ledger.turn(Wish(idle=3)).leases) == 3
        transaction.set_rollback(True, database())
    [(sql, params)] = [(sql, params) for sql, params in asked if "WITH picked" in sql]
    with transaction.atomic(database()), connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
        [[explained]] = cursor.fetchall()
        transaction.set_rollback(True, database())
    plan = explained[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def test_beside_a_transaction_that_stays_open_a_claim_costs_in_step_with_what_was_done(
    ledger: Ledger,
) -> None:
    for _ in range(TASKS // 1000):
        lifecycle.enqueue([TaskSpec(handler="fault.noop")] * 1000)
    with connections[database()].cursor() as cursor:
        cursor.execute("VACUUM ANALYZE tasks")  # whatever the planner knew of the tables of tests before
    drain(ledger, STEP)
    wait_until_nobody_looks()
    blocks_of_a_claim(ledger)  # passes by what it can clear away
    without = blocks_of_a_claim(ledger)

    with open_transaction():
        drain(ledger, STEP)
        once = blocks_of_a_claim(ledger)
        drain(ledger, STEP)
        twice = blocks_of_a_claim(ledger)
    wait_until_nobody_looks()
    blocks_of_a_claim(ledger)
    afterwards = blocks_of_a_claim(ledger)

    print(
        f"blocks of a claim: {without}; {once} after {STEP} tasks, {twice} after as many more; {afterwards}"
    )
    assert without < FEW_BLOCKS
    assert once < without + STEP / DONE_PER_BLOCK
    assert twice < without + 2 * STEP / DONE_PER_BLOCK
    assert afterwards < FEW_BLOCKS
