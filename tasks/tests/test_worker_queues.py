"""Which task comes next, and from which queue."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tasks import lifecycle
from tasks.contract import TaskSpec
from tasks.models import Task
from tasks.states import Status, WaitingFor
from tasks.tests.standing import APPS
from tasks.tests.workers import (
    RunWorkers,
    enqueue,
    lines,
    run_workers,
    wait_all_finished,
    wait_finished,
    wait_until,
)

__all__ = ["run_workers"]

SOON = 1.0  # seconds; most of it is for a machine that is busy with other tests


def recording(path: Path, **fields: Any) -> TaskSpec:
    return TaskSpec(handler="fault.record", payload={"path": str(path)}, **fields)


def order(path: Path) -> list[UUID]:
    return [UUID(words[1]) for words in lines(path) if words[0] == "start"]


# -- which one


def test_higher_priority_comes_first_then_what_was_ready_first(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    made = [
        (-priority, number, lifecycle.enqueue([recording(ran, priority=priority)])[0].id)
        for number, priority in enumerate([0, 5, -100, 0, 100, 5, -1, 0, 5, 100])
    ]

    run_workers("--n", "1")
    wait_all_finished()

    assert order(ran) == [task_id for *_, task_id in sorted(made)]


def test_only_the_queues_that_were_named_are_served_the_first_ones_first(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    ids = {
        queue: [made.id for made in lifecycle.enqueue([recording(ran, queue=queue)] * 5)]
        for queue in ("others", "second", "first", "default")
    }

    run_workers("--n", "1", "--queues", "first,second")
    wait_until(lambda: len(order(ran)) == 10, "ten have begun")

    assert order(ran) == ids["first"] + ids["second"]
    wait_finished(enqueue("fault.noop", queue="second"))
    rest = Task.objects.filter(pk__in=ids["others"] + ids["default"])
    assert set(rest.values_list("status", "attempt", "waiting_for")) == {(Status.PENDING, 0, None)}


@pytest.mark.parametrize("named", [True, False], ids=["by --queues", "all"])
def test_a_paused_queue_is_left_alone_and_goes_on_at_once(
    run_workers: RunWorkers, tmp_path: Path, named: bool
) -> None:
    lifecycle.pause(["mail"])
    held_back = lifecycle.enqueue([recording(tmp_path / "ran", queue="mail")] * 3)

    run_workers("--n", "1", *(["--queues", "mail,default"] if named else []))
    wait_finished(enqueue("fault.noop"))
    wait_finished(enqueue("fault.noop"))
    assert not (tmp_path / "ran").exists()

    lifecycle.resume(["mail"])
    began = time.monotonic()
    wait_until(lambda: len(order(tmp_path / "ran")) == 3, "all three have begun")
    assert time.monotonic() - began < 2 * SOON
    wait_all_finished()
    assert {task.status for task in Task.objects.filter(pk__in=[made.id for made in held_back])} == {
        "completed"
    }


def test_a_handler_that_a_worker_does_not_know_is_left_to_one_that_does(run_workers: RunWorkers) -> None:
    run_workers("--n", "1")  # knows fault.* alone
    strangers = [enqueue("antic.pid") for _ in range(3)]
    known = enqueue("fault.noop")

    assert wait_finished(known).status == Status.COMPLETED
    waiting = Task.objects.filter(pk__in=strangers, waiting_for=WaitingFor.HANDLER)
    wait_until(lambda: waiting.count() == 3, "they were set aside")
    assert set(waiting.values_list("status", "attempt")) == {(Status.PENDING, 0)}

    run_workers("--n", "1", TASKSERVICE_APPS=APPS)
    assert {wait_finished(task_id).status for task_id in strangers} == {Status.COMPLETED}


def test_strangers_at_the_head_of_a_queue_hide_nothing_behind_them(run_workers: RunWorkers) -> None:
    lifecycle.enqueue([TaskSpec(handler="antic.pid", priority=100)] * 1200)
    known = enqueue("fault.noop")

    run_workers("--n", "1")

    assert wait_finished(known).status == Status.COMPLETED
