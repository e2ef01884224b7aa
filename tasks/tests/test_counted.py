"""What handlers make and cancel is counted by their dispatcher, and an executor can spoil no counts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from tasks import states, tally, totals
from tasks.contract import TaskSpec
from tasks.lifecycle import enqueue
from tasks.models import Rollup
from tasks.models.task import database
from tasks.tally import Cell, Tally
from tasks.tests.workers import RunWorkers, run_workers, wait_finished
from tasks.tests.workers import enqueue as enqueue_one
from tasks.worker import counted
from tasks.worker.wire import BrokenWire

__all__ = ["run_workers"]


@pytest.mark.django_db(transaction=True)
def test_what_a_handler_cancels_is_not_counted_as_made(run_workers: RunWorkers) -> None:
    waiting = enqueue(
        [TaskSpec(handler="fault.noop", queue="tidied", run_at=timezone.now() + timedelta(hours=1))] * 3
    )
    tally.here.take()
    steering = enqueue_one("fault.steer", payload={"cancel": [task.id.hex for task in waiting], "make": 2})
    worker = run_workers("--n", "1")
    wait_finished(steering)
    worker.stop()

    made = {cell: count for cell, count in totals.read().items() if cell.name == tally.CREATED}

    assert made == {Cell(tally.CREATED, "made", "fault.noop"): 2}
    assert sum(Rollup.objects.filter(queue="tidied", seconds=60).values_list("cancelled", flat=True)) == 3


def test_a_million_tasks_are_one_entry_on_the_wire() -> None:
    here, there = Tally(), Tally()
    there.moved(states.CANCEL.name, ["mail"] * 1_000_000)
    there.created([("mail", "demo.echo")] * 2)

    entries = counted.take(there)
    here.add(counted.read(entries))

    assert len(entries) == 2
    assert there.empty
    assert here.take() == {
        Cell(tally.MOVED, "mail", transition="cancel"): 1_000_000,
        Cell(tally.CREATED, "mail", "demo.echo"): 2,
    }


@pytest.mark.parametrize(
    "entries",
    [
        None,
        {},
        [["created", "mail", "demo.echo", "", "", 1]] * (counted.MOST + 1),
        ["created"],
        [["created", "mail", "demo.echo", "", 1]],
        [["settled", "mail", "demo.echo", "succeeded", "complete", 1]],
        [["created", "mail", "", "", "", 1]],
        [["created", "m" * 65, "demo.echo", "", "", 1]],
        [["created", "mail\0", "demo.echo", "", "", 1]],
        [["created", "mail", "h" * 256, "", "", 1]],
        [["created", "mail", "\ud800", "", "", 1]],
        [["moved", "mail", "", "", "nowhere", 1]],
        *[
            [["created", "mail", "demo.echo", "", "", count]]
            for count in (0, -1, True, 1.5, "1", None, 2**31)
        ],
    ],
)
def test_counts_that_no_honest_executor_sends_are_refused(entries: Any) -> None:
    with pytest.raises(BrokenWire):
        counted.read(entries)


def test_an_executor_sends_only_what_is_accepted() -> None:
    there = Tally()
    there.count(tally.DATABASE, detail="api")
    there.created([("q" * 65, "demo.echo"), ("", "demo.echo"), ("mail", "demo.echo")])

    assert counted.read(counted.take(there)) == {Cell(tally.CREATED, "mail", "demo.echo"): 1}


def test_an_executor_cannot_make_ever_more_series() -> None:
    here = Tally()
    here.add({Cell(tally.CREATED, f"q{number}", f"h{number}"): 1 for number in range(3_000)})

    counts = here.take()

    assert sum(counts.values()) == 3_000
    assert len({cell.handler for cell in counts}) == tally.MAX_HANDLERS + 1
    assert len({cell.queue for cell in counts}) == tally.MAX_QUEUES + 1


@pytest.fixture
def no_totals(transactional_db: None) -> Iterator[None]:
    """Their table is away: nobody can write down what was counted."""
    with connections[database()].cursor() as cursor:
        cursor.execute("ALTER TABLE totals RENAME TO totals_away")
        yield
        cursor.execute("ALTER TABLE totals_away RENAME TO totals")


@pytest.mark.slow  # counts are written down every five seconds
@pytest.mark.usefixtures("no_totals")
def test_a_worker_that_cannot_write_its_counts_down_works_as_ever(run_workers: RunWorkers) -> None:
    worker = run_workers("--n", "1", LOG_LEVEL="DEBUG")
    wait_finished(enqueue_one("fault.noop"))

    worker.wait_event("totals.not-written")
    wait_finished(enqueue_one("fault.noop"))

    assert worker.stop() == 0
    assert not worker.events("database.failed")
