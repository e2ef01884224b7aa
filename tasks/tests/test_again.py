"""What PostgreSQL ends so that others could go on is done again; who asked for it hears nothing of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from django.db import OperationalError, connections, transaction
from django.utils import timezone

from tasks import lifecycle
from tasks.api.creation import Answered, Asked, create
from tasks.contract import ErrorReport, Failed, Lease, Once, Outcome, Succeeded, TaskSpec
from tasks.lifecycle.again import PAUSES, again
from tasks.models import Idempotency, Queue, Task
from tasks.models.task import database
from tasks.states import Status, WaitingFor
from tasks.tests.databases import named
from tasks.tests.rows import HANDLER, LeasedTask, MakeTask, claimant
from tasks.tests.workers import RunWorkers, enqueue, run_workers, wait_all_finished, wait_until
from tasks.worker.ledger import Ledger, Wish

__all__ = ["run_workers"]

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

LOCK: LiteralString = "SELECT 1 FROM tasks WHERE id = %s FOR UPDATE"
NO = Failed(ErrorReport("builtins.ValueError", "no"))


def beside(*, autocommit: bool = False) -> psycopg.Connection[Any]:
    """A connection to the same database that Django knows nothing of."""
    return psycopg.connect(named(connections[database()].settings_dict["NAME"]), autocommit=autocommit)


def notice_deadlocks_within(span: str) -> None:
    """In the connection of this thread. Whoever looks for one after so long is the one that is ended."""
    with connections[database()].cursor() as cursor:
        cursor.execute("SELECT set_config('deadlock_timeout', %s, false)", [span])


@contextmanager
def deadlock_for_who_locks(first: UUID, held_up: UUID, last: UUID) -> Iterator[None]:
    """One transaction that locks these three in this order meets another that does it the other way round."""
    with (
        beside() as brake,
        beside() as other,
        beside(autocommit=True) as observer,
        ThreadPoolExecutor(2) as threads,
    ):
        other.execute("SET LOCAL deadlock_timeout = '60s'")
        other.execute(LOCK, [last])
        brake.execute(LOCK, [held_up])

        def waits_for(pid: int) -> bool:
            query = "SELECT 1 FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
            return observer.execute(query, [pid]).fetchone() is not None

        def waits(pid: int) -> bool:
            return (
                observer.execute("SELECT 1 WHERE pg_blocking_pids(%s) <> '{}'", [pid]).fetchone() is not None
            )

        def spring() -> None:
            wait_until(lambda: waits_for(brake.info.backend_pid), "the victim has the first, and waits")
            both = threads.submit(other.execute, LOCK, [first])
            wait_until(lambda: waits(other.info.backend_pid), "the other waits for the victim")
            brake.rollback()  # the victim goes on to the last, which is the other's
            both.result(timeout=30)
            other.rollback()

        sprung = threads.submit(spring)
        yield
        sprung.result(timeout=30)


@pytest.fixture
def _impatient(db: None) -> Iterator[None]:
    notice_deadlocks_within("20ms")
    yield
    connections[database()].close()


@pytest.mark.usefixtures("_impatient")
def test_a_cancel_that_met_a_deadlock_is_done_all_the_same(make_task: MakeTask) -> None:
    ids = sorted(make_task().pk for _ in range(3))

    with deadlock_for_who_locks(*ids):
        answer = lifecycle.cancel(ids)

    assert sorted(answer.cancelled) == ids
    assert Task.objects.filter(status=Status.CANCELLED).count() == 3


@pytest.mark.usefixtures("_impatient")
def test_within_a_callers_transaction_the_caller_hears_of_a_deadlock(make_task: MakeTask) -> None:
    """What it did before is undone as well, and only it can do that again."""
    ids = sorted(make_task().pk for _ in range(3))

    with (
        pytest.raises(OperationalError, match="deadlock detected"),
        deadlock_for_who_locks(*ids),
        transaction.atomic(using=database()),
    ):
        lifecycle.cancel(ids)

    assert Task.objects.filter(status=Status.PENDING).count() == 3


def test_a_turn_that_met_a_deadlock_settles_its_outcomes_once(leased_task: LeasedTask) -> None:
    done, *failed = sorted((leased_task() for _ in range(3)), key=lambda lease: lease.task_id)
    outcomes: list[tuple[Lease, Outcome]] = [(done, Succeeded("1")), *((lease, NO) for lease in failed)]
    ledger = Ledger(claimant())
    heard: list[tuple[Any, ...]] = []

    def is_heard() -> bool:
        ledger.collect()
        return bool(heard)

    ledger.start()
    ledger.submit(partial(notice_deadlocks_within, "20ms"), lambda *_: None)

    with deadlock_for_who_locks(*(lease.task_id for lease in (done, *failed))):
        ledger.submit(partial(ledger.turn, Wish(outcomes)), lambda *came: heard.append(came))
        wait_until(is_heard, "the turn is over")
    ledger.close()

    [(turned, error)] = heard
    assert error is None
    assert (len(turned.settlement.written), turned.settlement.lost) == (3, [])
    assert [row.attempts.count() for row in Task.objects.order_by("pk")] == [0, 1, 1]


def test_a_worker_takes_deadlocks_for_no_outage(run_workers: RunWorkers, refusals: Refusals) -> None:
    for _ in range(5):
        enqueue("fault.noop")
    refusals.first(2)

    worker = run_workers("--n", "2")

    wait_all_finished()
    assert Task.objects.filter(status=Status.COMPLETED, attempt=1).count() == 5
    assert len(worker.events("database.again")) == 2
    assert not worker.events("database.failed")


# -- every verb, by a table that refuses the first statement


class Refusals:
    """Writes to the tables that fail by 40001: a sequence counts them, which no rollback undoes."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._execute: Callable[[str], Any] = connection.execute

    def first(self, count: int) -> None:
        self._execute("CREATE SEQUENCE writes")
        self._execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF nextval('writes') <= {count} THEN "
            "RAISE SQLSTATE '40001' USING MESSAGE = 'could not serialize'; "
            "END IF; RETURN NULL; END $$"
        )
        for table in ("tasks", "queues", "idempotency"):
            self._execute(
                f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON {table} "
                "EXECUTE FUNCTION refuse()"
            )

    def writes(self) -> int:
        return int(self._execute("SELECT last_value FROM writes").fetchone()[0])

    def end(self) -> None:
        self._execute("DROP FUNCTION IF EXISTS refuse CASCADE")
        self._execute("DROP SEQUENCE IF EXISTS writes")


@pytest.fixture
def refusals(transactional_db: None) -> Iterator[Refusals]:
    with beside(autocommit=True) as connection:
        made = Refusals(connection)
        yield made
        made.end()


def _created() -> None:
    once = Once(owner="", path="/tasks", key="k", fingerprint="f")
    answer = Answered(status=201, body="{}")
    [came] = create([Asked(specs=[TaskSpec(handler=HANDLER)], answer=lambda made: answer, once=once)])
    assert came == answer


NOW = timezone.now()
PAST = NOW - timedelta(days=2)
SPEC = TaskSpec(handler=HANDLER)
IDS = [UUID(int=1)]
LAPSED: dict[str, Any] = {"status": Status.PROCESSING, "lease_expires_at": PAST, "fence": 1, "attempt": 1}
LEASE = Lease(
    IDS[0], 1, HANDLER, "[]", "{}", 1, 0, 5, 0, 0, None, "host:1:worker", NOW, "default", False
)  # fmt: skip


@pytest.mark.parametrize(
    ("row", "verb", "came"),
    [
        ({}, lambda: len(lifecycle.enqueue([SPEC])), 1),
        ({}, _created, None),
        ({}, lambda: lifecycle.cancel(IDS).cancelled, IDS),
        ({"status": Status.FAILED}, lambda: lifecycle.retry(IDS), 1),
        ({"expires_at": PAST}, lambda: lifecycle.expire(now=NOW), 1),
        ({}, lambda: lifecycle.park(()), 1),
        (
            {"ready_at": None, "waiting_for": WaitingFor.HANDLER},
            lambda: lifecycle.unpark([HANDLER], now=NOW),
            1,
        ),
        ({}, lambda: lifecycle.forget(now=NOW), 1),
        ({}, lambda: lifecycle.pause(["mail"]), 1),
        ({}, lambda: lifecycle.resume(["held"]), 1),
        (LAPSED, lambda: len(lifecycle.reap(now=NOW).written), 1),
        (LAPSED, lambda: len(lifecycle.extend([LEASE], by=timedelta(0), now=NOW).held), 1),
        ({}, lambda: len(Ledger(claimant()).turn(Wish(idle=1)).leases), 1),
        (LAPSED, lambda: len(Ledger(claimant()).careful_turn(Wish([(LEASE, NO)])).settlement.written), 1),
    ],
    ids=[
        *("enqueue", "create", "cancel", "retry", "expire", "park", "unpark"),
        *("forget", "pause", "resume", "reap", "extend", "turn", "careful-turn"),
    ],
)
def test_a_verb_that_was_refused_once_is_done(
    make_task: MakeTask, refusals: Refusals, row: dict[str, Any], verb: Callable[[], Any], came: Any
) -> None:
    make_task(**{"id": IDS[0], "worker_id": "host:1:worker" if row is LAPSED else "", **row})
    Idempotency.objects.create(owner="", path="/old", key="k", fingerprint="f", created_at=PAST)
    Queue.objects.create(name="held", paused_at=NOW)
    refusals.first(1)

    assert verb() == came
    assert refusals.writes() > 1


def test_what_is_refused_again_and_again_is_an_error_in_the_end(
    make_task: MakeTask, refusals: Refusals
) -> None:
    task = make_task()
    refusals.first(100)

    with pytest.raises(OperationalError, match="could not serialize"):
        lifecycle.cancel([task.pk])

    assert refusals.writes() == 1 + len(PAUSES)


def test_another_error_is_told_at_once() -> None:
    tries: list[int] = []

    @again
    def fail() -> None:
        tries.append(1)
        with connections[database()].cursor() as cursor:
            cursor.execute("SET lock_timeout = 'soon'")

    with pytest.raises(Exception, match="lock_timeout"):
        fail()
    assert len(tries) == 1
