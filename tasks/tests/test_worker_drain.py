"""A worker that is drained claims nothing more, finishes what it runs however long that takes, and ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import lifecycle, tally
from tasks.models import Task, Worker
from tasks.models.task import database
from tasks.states import Status
from tasks.tests.rows import claimant, make_worker
from tasks.tests.workers import RunWorkers, enqueue, lines, run_workers, wait_until
from tasks.worker.duties import Duties
from tasks.worker.vitals import Vitals

__all__ = ["run_workers"]

pytestmark = pytest.mark.django_db(transaction=True)


def drain(worker_id: str) -> None:
    assert lifecycle.drain([worker_id], by="ann") == 1


@pytest.mark.slow  # it reads its row every ten seconds
def test_a_drained_worker_finishes_what_it_runs_and_takes_nothing_more(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    """Longer than the grace of a signal: nobody is in a hurry."""
    gate, ran = tmp_path / "gate", tmp_path / "ran"
    running = enqueue("fault.until", payload={"path": str(ran), "file": str(gate)})
    worker = run_workers("--n", "2", TASKSERVICE_GRACE_SECONDS="0")
    wait_until(lambda: lines(ran), "it runs")

    drain(Worker.objects.get().pk)
    [told] = worker.wait_event("worker.stopping")
    after = enqueue("fault.noop")
    assert worker.process.poll() is None
    gate.touch()

    assert worker.wait() == 0
    assert (told["drain"], told["in_hand"]) == (True, 1)
    assert Task.objects.get(pk=running).status == Status.COMPLETED
    assert Task.objects.get(pk=after).status == Status.PENDING
    assert not Worker.objects.exists()


@pytest.mark.slow  # it reads its row every ten seconds
def test_an_idle_worker_that_is_drained_ends(run_workers: RunWorkers) -> None:
    worker = run_workers("--n", "1")
    worker.wait_executors(1)
    wait_until(Worker.objects.exists, "it is present")

    drain(Worker.objects.get().pk)

    assert worker.wait() == 0


@pytest.mark.slow  # it reads its row every ten seconds
def test_a_signal_hurries_a_drained_worker(run_workers: RunWorkers, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    task = enqueue("fault.until", payload={"path": str(ran), "file": str(tmp_path / "never")})
    worker = run_workers("--n", "1", TASKSERVICE_GRACE_SECONDS="0")
    wait_until(lambda: lines(ran), "it runs")
    drain(Worker.objects.get().pk)
    worker.wait_event("worker.stopping")

    worker.signal()

    assert worker.wait() == 0
    assert Task.objects.get(pk=task).status == Status.PENDING  # handed back


def test_the_row_is_renewed_and_read_by_one_statement() -> None:
    row = make_worker()

    with CaptureQueriesContext(connections[database()]) as asked:
        drains = lifecycle.present(row, now=timezone.now())

    assert (drains, len(asked.captured_queries)) == (False, 1)


def test_the_row_tells_how_the_worker_is_and_hears_what_is_asked_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row, vitals = make_worker(), Vitals(recycled=7)
    vitals.measure()
    monkeypatch.setattr(tally.here, "busy", 2)
    duties = Duties(claimant(worker_id=row.pk), row, None, vitals)

    duties.present([])
    told = Worker.objects.get()
    before = vitals.drains
    drain(row.pk)
    duties.present([])

    assert (told.busy, told.recycled) == (2, 7)
    assert told.memory_mb is not None
    assert 10 < told.memory_mb < 10_000  # of this process
    assert (before, vitals.drains) == (False, True)


def test_a_real_worker_tells_its_code_and_its_memory(run_workers: RunWorkers) -> None:
    run_workers("--n", "1", TASKSERVICE_VERSION="v7").wait_executors(1)

    row = wait_until(Worker.objects.first, "it is present")

    assert row is not None
    assert row.version == "v7"
    assert (row.memory_mb or 0) > 10


def test_who_asked_first_stays() -> None:
    row = make_worker()
    drain(row.pk)

    assert lifecycle.drain([row.pk, "nobody"], by="bob") == 0

    assert Worker.objects.get().drain_requested_by == "ann"
