"""The bell: a FIFO beside the database that whoever commits something rings."""

from __future__ import annotations

import fcntl
import os
import select
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connections, transaction

from tasks import bell, lifecycle
from tasks.contract import TaskSpec
from tasks.models import Task
from tasks.models.task import database
from tasks.sqlite.base import DatabaseWrapper
from tasks.states import Status
from tasks.tests.rows import HANDLER, MakeTask
from tasks.worker.wakeup import Bell


@pytest.fixture
def bell_of_the_database(transactional_db: None) -> Iterator[Bell]:
    """The bell that those who write to the test's database ring."""
    connection = connections[database()]
    assert isinstance(connection, DatabaseWrapper)
    made = Bell(connection.path + bell.BELL)
    made.drain()
    yield made
    made.close()


def _rings(listener: Bell, *, within: float = 0.0) -> bool:
    return bool(select.select([listener], [], [], within)[0])


def test_it_is_silent_until_somebody_rings(tmp_path: Path) -> None:
    made = Bell(str(tmp_path / "bell"))

    assert not _rings(made)
    made.close()


def test_it_rings_until_it_is_drained(tmp_path: Path) -> None:
    made = Bell(str(tmp_path / "bell"))

    bell._ring_fifo(str(tmp_path / "bell"))

    assert _rings(made)
    made.drain()
    assert not _rings(made)
    made.drain()  # with nothing there it does not wait
    made.close()


def test_ringing_without_a_listener_neither_waits_nor_fails(tmp_path: Path) -> None:
    bell._ring_fifo(str(tmp_path / "nothing there"))
    os.mkfifo(tmp_path / "nobody listens")

    bell._ring_fifo(str(tmp_path / "nobody listens"))


def test_a_bell_that_nobody_drains_never_blocks_a_writer(tmp_path: Path) -> None:
    made = Bell(str(tmp_path / "bell"))
    holds = fcntl.fcntl(made, fcntl.F_SETPIPE_SZ, 4096)

    for _ in range(2 * holds):
        bell._ring_fifo(str(tmp_path / "bell"))

    assert _rings(made)
    made.close()


def test_a_second_listener_takes_the_fifo_that_is_there(tmp_path: Path) -> None:
    first, second = Bell(str(tmp_path / "bell")), Bell(str(tmp_path / "bell"))

    bell._ring_fifo(str(tmp_path / "bell"))

    assert _rings(first)
    assert stat.S_ISFIFO((tmp_path / "bell").stat().st_mode)
    first.close()
    second.close()


def test_a_file_in_its_place_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bell").write_text("precious")

    with pytest.raises(OSError, match="not a FIFO"):
        Bell(str(tmp_path / "bell"))
    assert (tmp_path / "bell").read_text() == "precious"


@pytest.mark.sqlite
def test_a_new_task_rings_once_it_is_committed(bell_of_the_database: Bell) -> None:
    with transaction.atomic(using=database()):
        lifecycle.enqueue([TaskSpec(handler=HANDLER)])
        assert not _rings(bell_of_the_database)

    assert _rings(bell_of_the_database)


@pytest.mark.sqlite
def test_what_is_rolled_back_does_not_ring(bell_of_the_database: Bell) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=database()):
        lifecycle.enqueue([TaskSpec(handler=HANDLER)])
        raise ZeroDivisionError

    assert not _rings(bell_of_the_database)


@pytest.mark.sqlite
def test_cancel_retry_and_resume_ring(bell_of_the_database: Bell, make_task: MakeTask) -> None:
    running, failed = make_task(Status.PROCESSING), make_task(Status.FAILED)
    lifecycle.pause(["default"])
    bell_of_the_database.drain()

    def rings_after(moved: object) -> bool:
        heard = bool(moved) and _rings(bell_of_the_database)
        bell_of_the_database.drain()
        return heard

    assert rings_after(lifecycle.cancel([running.pk]).requested)
    assert rings_after(lifecycle.retry([failed.pk]))
    assert rings_after(lifecycle.resume(["default"]))
    assert Task.objects.count() == 2
