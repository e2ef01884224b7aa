"""Plans that a worker keeps on PostgreSQL: made for the table as it was, good for what it becomes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from django.db import connections, transaction
from django.utils import timezone

from tasks import lifecycle, postgres, statements
from tasks.contract import Lease, Outcome, Succeeded, TaskSpec
from tasks.models.task import database
from tasks.tests.ledgers import ledger
from tasks.worker.ledger import Ledger, Turned, Wish

__all__ = ["ledger"]

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

NOOP = TaskSpec(handler="fault.noop")
OFTEN = 2 * (postgres.PLANNED_AFTER + 5)  # the server plans each of the first five by itself
MANY = 5_000


def test_a_plan_from_an_empty_table_serves_a_full_one(ledger: Ledger) -> None:
    with connections[database()].cursor() as cursor:
        cursor.execute("VACUUM ANALYZE tasks")  # else the planner takes it for larger than it is
    outcomes: list[tuple[Lease, Outcome]] = []
    for _ in range(OFTEN):
        lifecycle.enqueue([NOOP])
        outcomes = succeeded(ledger.turn(Wish(outcomes, idle=1)))
    lifecycle.enqueue([NOOP] * MANY)

    with transaction.atomic(database()):
        turned = ledger.turn(Wish(outcomes, idle=1))
        read, kept = rows_read(), kept_plans()

    assert len(turned.settlement.written) == len(turned.leases) == 1
    assert any("UPDATE tasks SET status = 'completed'" in text for text in kept)
    assert any("WITH picked" in text for text in kept)
    assert read < MANY / 10


KEY = (statements.UUID_, statements.INT)
OF_A_BATCH = {
    "complete": (statements.COMPLETE, (*KEY, statements.JSON)),
    "settle": (statements.SETTLE, (*statements.SETTLED.values(),)),
    "extend": (statements.EXTEND, KEY),
    "lock": (statements.LOCK_IN_ORDER, KEY),
}


@pytest.mark.parametrize("statement", OF_A_BATCH)
def test_no_task_is_compared_with_each_of_a_batch_where_the_planner_last_saw_nothing_processing(
    ledger: Ledger, statement: str
) -> None:
    lifecycle.enqueue([NOOP] * MANY)
    with connections[database()].cursor() as cursor:
        cursor.execute("VACUUM ANALYZE tasks")
    leases = ledger.turn(Wish(idle=100)).leases

    plan = plan_of(*OF_A_BATCH[statement], leases)

    assert "Join Filter" not in plan
    assert "Hash Join" in plan or "Index Cond: (id = " in plan


def test_no_plan_of_a_batch_is_kept(ledger: Ledger) -> None:
    outcomes: list[tuple[Lease, Outcome]] = []
    for _ in range(OFTEN):
        lifecycle.enqueue([NOOP] * 3)
        outcomes = succeeded(ledger.turn(Wish(outcomes, idle=3)))

    assert not any("unnest" in text and "UPDATE" in text for text in kept_plans())


def plan_of(sql: str, types: tuple[str, ...], leases: Sequence[Lease]) -> str:
    rows = [(lease.task_id, lease.fence, *[None] * (len(types) - len(KEY))) for lease in leases]
    text = sql.format(rows=statements.rows(True, types, len(rows)))
    times = [timezone.now().isoformat()] * (text.count("%s") - len(types))
    with connections[database()].cursor() as cursor:
        cursor.execute(f"EXPLAIN {text}", [*postgres.arrays(rows), *times])
        return "\n".join(line for [line] in cursor.fetchall())


def succeeded(turned: Turned) -> list[tuple[Lease, Outcome]]:
    return [(lease, Succeeded("1")) for lease in turned.leases]


def rows_read() -> int:
    """Of the table, in this transaction."""
    with connections[database()].cursor() as cursor:
        cursor.execute(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'tasks'"
        )
        return int(cursor.fetchone()[0])


def kept_plans() -> list[str]:
    """The statements of this connection that run without being planned."""
    with connections[database()].cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements WHERE generic_plans > 0")
        return [text for [text] in cursor.fetchall()]
