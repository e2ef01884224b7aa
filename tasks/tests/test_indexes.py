"""Every statement that runs often finds its rows by an index: none walks the table, none sorts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from tasks import lifecycle
from tasks.book import Book
from tasks.contract import ErrorReport, Failed, Lease, Succeeded
from tasks.grants import Grant
from tasks.models import Task, Worker
from tasks.models.task import database
from tasks.states import WaitingFor
from tasks.tests.rows import HANDLER, LeasedTask, MakeTask, claimant
from tasks.worker.duties import Duties

KEY = "the primary key"


@dataclass(frozen=True)
class Plan:
    """How a database means to find the rows of ``tasks``; each names an index, or says what is wrong."""

    indexes: frozenset[str]
    complaints: tuple[str, ...]
    text: str


# --- what a verb runs


@contextmanager
def statements_of(connection: BaseDatabaseWrapper) -> Iterator[list[tuple[str, Any]]]:
    seen: list[tuple[str, Any]] = []

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if re.search(r"\btasks\b", sql) and not many:
            seen.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield seen


def plans_of(verb: Callable[[], Any]) -> list[Plan]:
    """The plan of each statement on ``tasks`` that the verb runs."""
    connection = connections[database()]
    with statements_of(connection) as seen:
        verb()
    assert seen, "the verb asked the database nothing"
    return [EXPLAIN[connection.vendor](connection, sql, params) for sql, params in seen]


# --- how each database says it


def sqlite_plan(connection: BaseDatabaseWrapper, sql: str, params: Any) -> Plan:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}", params)
        steps = [row[3] for row in cursor.fetchall()]
    used = re.findall(r'tasks"? USING (?:COVERING )?INDEX (\w+)', "\n".join(steps))
    wrong = [step for step in steps if re.match(r"SCAN tasks(?! USING)|USE TEMP B-TREE|.*AUTOMATIC", step)]
    indexes = (KEY if index.startswith("sqlite_autoindex_tasks") else index for index in used)
    return Plan(frozenset(indexes), tuple(wrong), "\n".join(steps))


def postgres_plan(connection: BaseDatabaseWrapper, sql: str, params: Any) -> Plan:
    """A small table is always walked: here only what would do for a large one."""
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        for way in ("seqscan", "bitmapscan", "hashjoin", "mergejoin"):
            cursor.execute(f"SET LOCAL enable_{way} = off")
        cursor.execute(f"EXPLAIN {sql}", params)
        steps = [row[0] for row in cursor.fetchall()]
    text = "\n".join(steps)
    used = re.findall(r"Index (?:Only )?Scan(?: Backward)? using (\w+) on tasks", text)
    wrong = re.findall(r"Seq Scan on tasks\b|Sort Key: (?!(?:\w+\.)?id$).*", text, re.MULTILINE)
    indexes = (KEY if index.startswith("tasks_pkey") else index for index in used)
    return Plan(frozenset(indexes), tuple(wrong), text)


EXPLAIN = {"sqlite": sqlite_plan, "postgresql": postgres_plan}


def assert_only(plans: list[Plan], *indexes: str) -> None:
    """Together the plans use exactly these indexes, and nothing else is to be said of them.

    A database that counts rows may find one of them enough for the few in a test.
    """
    used = {index for plan in plans for index in plan.indexes}
    for plan in plans:
        assert not plan.complaints, plan.text
        assert plan.indexes, plan.text
    assert used == set(indexes) or (counts_rows() and used <= set(indexes)), [plan.text for plan in plans]


def counts_rows() -> bool:
    return connections[database()].vendor == "postgresql"


# --- the verbs


def now_and(**later: float) -> Any:
    return timezone.now() + timedelta(**later)


@pytest.mark.parametrize("ahead", [0, 5])
def test_claim_from_a_named_queue(make_task: MakeTask, ahead: int) -> None:
    make_task()

    plans = plans_of(lambda: lifecycle.claim(claimant("default"), limit=5, ahead=ahead, now=now_and()))

    assert_only(plans, "task_timetable_idx", "task_ready_idx", KEY)


@pytest.mark.parametrize("ahead", [0, 5])
def test_claim_from_every_queue(make_task: MakeTask, ahead: int) -> None:
    for queue in ("a", "b"):
        make_task(queue=queue)

    plans = plans_of(lambda: lifecycle.claim(claimant(), limit=5, ahead=ahead, now=now_and()))

    assert_only(plans, "task_timetable_idx", "task_ready_idx", KEY)


def test_the_order_of_a_claim_is_that_of_its_index(make_task: MakeTask) -> None:
    many = tuple(f"handler.{number}" for number in range(50))

    make_task(queue="a", handler="handler.7")

    *_, plan = plans_of(lambda: lifecycle.claim(claimant("a", handlers=many), limit=5, now=now_and()))

    assert_only([plan], "task_ready_idx", KEY)


def test_the_tasks_of_an_owner_newest_first(make_task: MakeTask) -> None:
    make_task(owner="app")
    seen = Task.objects.using(database()).visible_to(Grant(owner="app")).order_by("-pk")

    assert_only(plans_of(lambda: list(seen[:50])), "task_owner_idx")


def test_promote(db: None) -> None:
    assert_only(plans_of(lambda: Book(database()).promote(now_and(), limit=5)), "task_timetable_idx", KEY)


def test_ready_queues(db: None) -> None:
    assert_only(plans_of(lambda: Book(database()).ready_queues()), "task_ready_idx")


def test_look(db: None) -> None:
    assert_only(plans_of(lifecycle.look), "task_ready_idx", "task_timetable_idx")


def test_asked_to_stop(make_task: MakeTask) -> None:
    lease_some(make_task, 300)  # else the index of leases is as good
    with connections[database()].cursor() as cursor:
        cursor.execute("ANALYZE tasks")

    assert_only(plans_of(lambda: lifecycle.asked_to_stop("host:1:worker")), "task_cancel_idx")


def lease_some(make_task: MakeTask, count: int) -> list[Lease]:
    now = timezone.now()
    Task.objects.bulk_create(Task(handler=HANDLER, created_at=now, ready_at=now) for _ in range(count))
    return lifecycle.claim(claimant("default"), limit=count, now=timezone.now())


@pytest.mark.parametrize("count", [1, 3, 256])
def test_settling_and_extending_go_by_the_key(make_task: MakeTask, count: int) -> None:
    leases = lease_some(make_task, count)
    failed = Failed(ErrorReport("E", "boom"))

    assert_by_key(plans_of(lambda: lifecycle.extend(leases, by=timedelta(hours=1), now=now_and())))
    assert_by_key(plans_of(lambda: lifecycle.settle([(lease, failed) for lease in leases], now=now_and())))
    assert_by_key(
        plans_of(lambda: lifecycle.settle([(lease, Succeeded()) for lease in leases], now=now_and()))
    )


def assert_by_key(plans: list[Plan]) -> None:
    """Or, where a database counts its rows, by the index of the few that are processing."""
    for plan in plans:
        assert plan.indexes == {KEY} or (counts_rows() and plan.indexes == {"task_lease_idx"}), plan.text
        assert not plan.complaints, plan.text


def test_reap(leased_task: LeasedTask) -> None:
    lease = leased_task()

    plans = plans_of(lambda: lifecycle.reap(now=now_and(hours=1), spared=[lease.task_id]))

    assert_only(plans, "task_lease_idx")


def test_reap_after_deaths(db: None) -> None:
    assert_only(plans_of(lambda: lifecycle.reap(now=now_and(), dead_workers=["a", "b"])), "task_lease_idx")


def test_looking_for_what_is_ours_and_not_in_hand(leased_task: LeasedTask) -> None:
    lease = leased_task()
    presence = Worker(id=lease.worker_id, host="here", pid=1)
    duties = Duties(claimant(), presence, None)

    assert_only(plans_of(lambda: duties.reap([lease])), "task_lease_idx")


def test_expire(db: None) -> None:
    assert "task_expiry_idx" in plans_of(lambda: lifecycle.expire(now=now_and()))[0].indexes


def test_what_expired_is_moved_by_the_key(make_task: MakeTask) -> None:
    make_task(expires_at=timezone.now())

    assert_only(plans_of(lambda: lifecycle.expire(now=now_and())), "task_expiry_idx", KEY)


def test_park(make_task: MakeTask) -> None:
    make_task(handler="no.such.handler")

    assert_only(plans_of(lambda: lifecycle.park([HANDLER])), "task_ready_idx", KEY)


def test_unpark(make_task: MakeTask) -> None:
    make_task(ready_at=None, waiting_for=WaitingFor.HANDLER)

    assert_only(plans_of(lambda: lifecycle.unpark([HANDLER, "b"], now=now_and())), "task_parked_idx", KEY)


def test_steering_goes_by_the_key(make_task: MakeTask) -> None:
    ids = [make_task().pk for _ in range(3)]

    assert_only(plans_of(lambda: lifecycle.cancel(ids)), KEY)
    assert_only(plans_of(lambda: lifecycle.retry(ids)), KEY)


def test_a_unique_key_is_found_by_its_index(make_task: MakeTask) -> None:
    """The statement says when a key counts in the same words as the index."""
    book = Book(database())

    assert_only(plans_of(lambda: book.holders([("", "k"), ("", "l")], timezone.now())), "task_unique_idx")
