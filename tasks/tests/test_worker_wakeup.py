"""How soon a worker that has nothing to do sees that there is something."""

from __future__ import annotations

import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path

import pytest
from django.db import connections
from django.utils import timezone

from tasks import lifecycle
from tasks.models import Queue
from tasks.models.task import database
from tasks.tests.standing import standing_worker, worker
from tasks.tests.workers import RunningWorker, enqueue, finished, lines, wait_finished, wait_until

__all__ = ["standing_worker", "worker"]

SOON = 1.0  # seconds; most of it is for a machine that is busy with other tests


def test_an_idle_worker_takes_a_new_task_at_once(worker: RunningWorker, tmp_path: Path) -> None:
    waits = []
    for _ in range(20):
        path = tmp_path / "ran"
        asked = time.time()
        wait_finished(enqueue("antic.notes_the_time", payload={"path": str(path)}))
        waits.append(float(lines(path)[-1][-1]) - asked)

    assert statistics.median(waits) < 0.25  # it would be 0.5 by polling; how fast it is, the benchmark tells


@pytest.mark.sqlite
def test_a_writer_that_does_not_ring_is_seen_within_a_second(worker: RunningWorker) -> None:
    """Any program with a driver for the database."""
    connection = connections[database()]
    task_id = enqueue("fault.noop")
    done = wait_finished(task_id)
    time_text = connection.ops.adapt_datetimefield_value(timezone.now())

    with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=5)) as stranger, stranger:
        stranger.execute("PRAGMA wal_autocheckpoint=0")
        stranger.execute(
            "UPDATE tasks SET status='pending', ready_at=?, finished_at=NULL WHERE id=?",
            (time_text, done.pk.hex),
        )

    began = time.monotonic()
    again = wait_until(lambda: (task := finished(task_id)) and task.fence == 2 and task, "it ran again")
    assert time.monotonic() - began < SOON
    assert again


def test_a_queue_that_is_let_go_on_without_a_bell_goes_on_within_a_second(worker: RunningWorker) -> None:
    """By an UPDATE of somebody else's program."""
    lifecycle.pause(["mail"])
    task_id = enqueue("fault.noop", queue="mail")
    wait_finished(enqueue("fault.noop"))

    Queue.objects.filter(name="mail").update(paused_at=None)
    began = time.monotonic()

    wait_finished(task_id)
    assert time.monotonic() - began < 2 * SOON
