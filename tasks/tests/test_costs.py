"""What a task costs in statements and commits: counted, so that it holds on any machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from tasks import clock, lifecycle
from tasks.contract import Lease, Outcome, Succeeded, TaskSpec
from tasks.models import Task
from tasks.models.task import database
from tasks.states import Status
from tasks.tests.api_client import Api
from tasks.tests.rows import claimant
from tasks.tests.workers import RunWorkers, run_workers, wait_all_finished
from tasks.worker.ledger import Ledger, Wish

__all__ = ["run_workers"]

pytestmark = pytest.mark.django_db(transaction=True)

NOOP = TaskSpec(handler="fault.noop")
MANY = 1000
IN_HAND = 3 * 64  # what three executors hold of short tasks
LOOK = 1 if os.environ["TEST_DATABASE"] == "postgres" else 2  # statements; only a server is far away
FRAME = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


@dataclass
class Costs:
    commits: int = 0
    texts: list[str] = field(default_factory=list)

    @property
    def statements(self) -> int:
        return len(self.texts)

    def __str__(self) -> str:
        return "\n".join([f"{self.commits} commits", *self.texts])


@contextmanager
def counted() -> Iterator[Costs]:
    """Of what the block asks of the database; ``now()`` of PostgreSQL, which SQLite does not need, aside."""
    costs = Costs()
    with CaptureQueriesContext(connections[database()]) as heard:
        yield costs
    texts = [query["sql"].strip() for query in heard.captured_queries]
    costs.commits = sum(text.startswith("COMMIT") for text in texts)
    costs.texts = [text for text in texts if not text.startswith((*FRAME, "SELECT now()", "NOTIFY"))]


def test_a_thousand_tasks_in_one_call_are_one_text_and_one_commit() -> None:
    with counted() as costs:
        lifecycle.enqueue([NOOP] * MANY)

    assert (costs.commits, costs.statements) == (1, 1), costs


def test_draining_a_thousand_tasks_takes_a_commit_for_each_handful() -> None:
    lifecycle.enqueue([NOOP] * MANY)
    ledger = Ledger(claimant("default", handlers=["fault.noop"]))

    with counted() as costs:
        turns = drain(ledger)

    handfuls = -(-MANY // IN_HAND)
    assert turns == costs.commits == handfuls + 1  # the last settles, and finds nothing to claim
    assert costs.statements <= 6 * turns, costs
    assert Task.objects.filter(status=Status.COMPLETED).count() == MANY


def drain(ledger: Ledger) -> int:
    """As the loop does while executors are quick. Returns how many turns it took."""
    outcomes: list[tuple[Lease, Outcome]] = []
    turns = 0
    while True:
        turned = ledger.turn(Wish(outcomes, idle=3, ahead=IN_HAND - 3))
        turns += 1
        outcomes = [(lease, Succeeded("1")) for lease in turned.leases]
        if not outcomes:
            return turns


def test_a_worker_with_nothing_to_do_commits_nothing() -> None:
    ledger = Ledger(claimant("default", handlers=["fault.noop"]))

    with counted() as costs:
        turned = ledger.turn(Wish(idle=3, in_hand=False))

    assert not turned.leases
    assert costs.commits == 0
    assert costs.statements == LOOK, costs


def test_an_idle_worker_gets_a_task_with_a_look_and_a_claim() -> None:
    lifecycle.enqueue([NOOP])
    ledger = Ledger(claimant(handlers=["fault.noop"]))

    with counted() as costs:
        turned = ledger.turn(Wish(idle=3, in_hand=False))

    assert len(turned.leases) == 1
    assert (costs.commits, costs.statements) == (1, LOOK + 1), costs


def test_keeping_many_leases_is_one_statement_and_one_commit() -> None:
    lifecycle.enqueue([NOOP] * IN_HAND)
    who = claimant("default", handlers=["fault.noop"])
    leases = Ledger(who).turn(Wish(idle=IN_HAND)).leases
    now = clock.now(database())

    with counted() as costs:
        extension = lifecycle.extend(leases, by=timedelta(seconds=30), now=now)

    assert len(extension.held) == IN_HAND
    assert (costs.commits, costs.statements) == (1, 1), costs


PENDING = 3  # the task or the page, and why it waits: paused queues, live workers

REQUESTS: dict[str, tuple[Callable[[Api, str], Any], int, int]] = {
    "create": (lambda api, made: api.post("/tasks", {"title": "a"}), 1, 1),
    "read": (lambda api, made: api.get(f"/tasks/{made}"), 0, PENDING),
    "read as the first clients do": (lambda api, made: api.get(f"/task?id={made}"), 0, PENDING),
    "list": (lambda api, made: api.get("/tasks"), 0, PENDING),
    "list by status": (
        lambda api, made: api.get("/tasks?status=completed&queue=mail"),
        0,
        2,
    ),  # it looks how many there are
    "cancel": (lambda api, made: api.post(f"/tasks/{made}/cancel"), 1, 5),
}


@pytest.mark.parametrize(("ask", "commits", "statements"), REQUESTS.values(), ids=REQUESTS)
def test_a_request_costs_so_much(ask: Callable[[Api, str], Any], commits: int, statements: int) -> None:
    api = Api()
    made = str(api.create()["id"])

    with counted() as costs:
        answer = ask(api, made)

    assert answer.status < 300
    assert costs.commits == commits, costs
    assert costs.statements <= statements, costs


def test_a_real_worker_shares_its_commits(run_workers: RunWorkers) -> None:
    """However slow the machine: one claim each would be a thousand."""
    worker = run_workers("--n", "3")
    worker.wait_executors(3)
    lifecycle.enqueue([NOOP] * MANY)

    wait_all_finished()

    assert Task.objects.values("attempted_at").distinct().count() <= MANY / 10
