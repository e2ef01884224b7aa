"""What handlers are given, what they return, and what their errors become."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import MESSAGE_CHARS, TRACEBACK_CHARS, TaskSpec
from tasks.models import Attempt, Task
from tasks.models.task import database
from tasks.states import Status
from tasks.tests.standing import standing_worker, worker
from tasks.tests.workers import RunningWorker, enqueue, lines, wait_all_finished, wait_finished

__all__ = ["standing_worker", "worker"]


def error_of(task: Task) -> dict[str, Any]:
    assert task.error is not None
    return dict(task.error)


def returning(what: str) -> UUID:
    return enqueue("antic.returns", payload={"what": what})


# -- results

KEPT = {
    "fine": {"fine": ["ä", 1, None]},
    "bytes": "bytes",
    "tuple": [1, [2, 3]],
    "text of a class of its own": "text",
    "greatest integer": 2**63 - 1,
    "as large as allowed": "x" * (256 * 1024 - 2),
}
NOT_KEPT = [
    "generator",
    "bytes that are no text",
    "set",
    "keys that are no text",
    "object",
    "infinity",
    "too large by one",
]
UNSTORABLE = [
    *(f"fault.{name}" for name in ("nul", "nan", "surrogate", "moment", "deep", "circular", "big_integer")),
    "fault.huge",
]


def test_what_json_can_keep_is_kept(worker: RunningWorker) -> None:
    ids = {what: returning(what) for what in KEPT}

    assert {what: wait_finished(task_id).result for what, task_id in ids.items()} == KEPT


def test_what_cannot_be_kept_fails_its_own_task_for_good_and_no_other(worker: RunningWorker) -> None:
    """All in one commit, so that they meet in the turns that settle them."""
    specs = [
        spec
        for handler in UNSTORABLE
        for spec in (TaskSpec(handler=handler), *[TaskSpec(handler="fault.noop")] * 20)
    ]
    specs += [TaskSpec(handler="antic.returns", payload={"what": what}) for what in NOT_KEPT]

    lifecycle.enqueue(specs)
    wait_all_finished()

    good = Task.objects.filter(handler="fault.noop")
    bad = Task.objects.exclude(handler="fault.noop")
    assert set(good.values_list("status", "attempt")) == {(Status.COMPLETED, 1)}
    assert set(bad.values_list("status", "attempt", "result")) == {(Status.FAILED, 1, None)}
    kinds = {error_of(task)["type"] for task in bad}
    assert kinds == {"tasks.errors.UnstorableResult", "tasks.errors.ResultTooLarge"}
    assert Attempt.objects.count() == len(UNSTORABLE) + len(NOT_KEPT)


REFUSES = {
    "sqlite": [
        """CREATE TRIGGER refuse BEFORE UPDATE ON tasks WHEN NEW.result LIKE '%refused%'
        BEGIN SELECT RAISE(ABORT, 'refused'); END"""
    ],
    "postgresql": [
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE 'refused' USING ERRCODE = 'check_violation'; END$$""",
        """CREATE TRIGGER refuse BEFORE UPDATE ON tasks FOR EACH ROW
        WHEN (NEW.result::text LIKE '%refused%') EXECUTE FUNCTION refuse()""",
    ],
}
FORGIVES = {"sqlite": "DROP TRIGGER refuse", "postgresql": "DROP FUNCTION refuse CASCADE"}


@pytest.fixture
def a_database_that_refuses() -> Iterator[str]:
    """To store one result, which it names."""
    connection = connections[database()]
    with connection.cursor() as cursor:
        for statement in REFUSES[connection.vendor]:
            cursor.execute(statement)
        yield "refused"
        cursor.execute(FORGIVES[connection.vendor])


def test_what_the_database_refuses_fails_its_own_task_and_no_other(
    worker: RunningWorker, a_database_that_refuses: str
) -> None:
    """Should something get past the executor."""
    specs = [TaskSpec(handler="fault.noop")] * 60
    specs[30:30] = [TaskSpec(handler="demo.echo", payload={"text": a_database_that_refuses})]

    lifecycle.enqueue(specs)
    wait_all_finished()

    [bad] = Task.objects.filter(handler="demo.echo")
    assert (bad.status, bad.attempt, bad.result) == (Status.FAILED, 1, None)
    assert error_of(bad)["type"] == "tasks.errors.UnstorableResult"
    good = Task.objects.filter(handler="fault.noop")
    assert set(good.values_list("status", "attempt")) == {(Status.COMPLETED, 1)}


# -- arguments


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"ä ö": "\u2028 \U0001f600 \x7f \\ \" '", "": None},
        {"nested": [[], {}, [{"a": [None, True, -0.5, 1e300]}]]},
        {"big": 2**63 - 1, "small": -(2**63)},
        {"long": "x" * 200_000},
        {"lines": "a\nb\r\n"},
    ],
    ids=["nothing", "odd text", "nested", "big integers", "long", "lines"],
)
def test_a_handler_gets_exactly_what_it_was_given(worker: RunningWorker, payload: dict[str, Any]) -> None:
    task = wait_finished(enqueue("demo.echo", payload=payload))

    assert task.result == payload
    assert json.dumps(task.result) == json.dumps(payload)  # -0.5 and True are not equal only


def test_positional_arguments_come_first(worker: RunningWorker) -> None:
    task = wait_finished(enqueue("demo.echo", args=[1, "ä", [None]], payload={"a": 2}))

    assert task.result == [1, "ä", [None], {"a": 2}]


def test_arguments_that_do_not_fit_are_the_handlers_own_error(worker: RunningWorker) -> None:
    task = wait_finished(enqueue("fault.noop", max_attempts=1, payload={"surprise": 1}))

    assert task.status == Status.FAILED
    assert error_of(task)["type"] == "builtins.TypeError"
    assert "surprise" in error_of(task)["message"]


@pytest.mark.parametrize("handler", ["antic.context", "antic.context_async"])
def test_a_handler_that_asks_for_it_is_told_about_its_run(worker: RunningWorker, handler: str) -> None:
    task = wait_finished(enqueue(handler))

    assert task.result == [str(task.id), 1, task.fence, "RUNNING"]


def test_what_a_handler_prints_is_seen_at_once(worker: RunningWorker) -> None:
    text = f"printed at {time.time()}"

    wait_finished(enqueue("antic.says", payload={"text": text}))

    assert text in worker.output()


# -- errors

ERRORS = {
    "fault.error": "builtins.ValueError",
    "fault.odd_error": "builtins.ValueError",
    "fault.unspeakable_error": "tasks.tests.faults.tasks.Unspeakable",
    "fault.base_exception": "builtins.BaseException",
    "fault.keyboard_interrupt": "builtins.KeyboardInterrupt",
    "fault.system_exit": "builtins.SystemExit",
    "fault.generator_exit": "builtins.GeneratorExit",
}


def test_whatever_a_handler_raises_is_recorded_and_bounded(worker: RunningWorker) -> None:
    ids = {handler: enqueue(handler, max_attempts=1) for handler in ERRORS}

    for handler, kind in ERRORS.items():
        task = wait_finished(ids[handler])
        attempt = Attempt.objects.get(task_id=task.id)
        assert (task.status, error_of(task)["type"]) == (Status.FAILED, kind)
        assert (attempt.outcome, attempt.error_type) == (Attempt.Outcome.FAILED, kind)
        assert len(attempt.message) <= MESSAGE_CHARS
        assert len(attempt.traceback) <= TRACEBACK_CHARS
        assert f"in {handler.removeprefix('fault.')}" in attempt.traceback


def test_a_traceback_begins_with_the_handler(worker: RunningWorker) -> None:
    task = wait_finished(enqueue("fault.error", max_attempts=1))

    first, *_ = [
        line for line in Attempt.objects.get(task_id=task.id).traceback.splitlines() if "File" in line
    ]
    assert "faults/tasks.py" in first


def test_giving_up_is_final(worker: RunningWorker) -> None:
    task = wait_finished(enqueue("fault.give_up"))

    assert (task.status, task.attempt) == (Status.FAILED, 1)
    assert error_of(task)["message"] == "not worth it"


def test_each_failed_attempt_has_a_row_and_the_success_has_none(worker: RunningWorker) -> None:
    task = wait_finished(enqueue("antic.fails_n_times", payload={"times": 3}))

    assert (task.status, task.result, task.attempt, task.error) == (Status.COMPLETED, 4, 4, None)
    rows = Attempt.objects.filter(task_id=task.id).values_list("number", "outcome", "message")
    assert list(rows) == [(number, "failed", f"attempt {number}") for number in (1, 2, 3)]
    fences = list(Attempt.objects.filter(task_id=task.id).values_list("fence", flat=True))
    assert fences == sorted(set(fences))


def test_no_task_has_more_attempts_than_it_may(worker: RunningWorker) -> None:
    task = wait_finished(enqueue("antic.fails_n_times", max_attempts=3, payload={"times": 99}))

    assert (task.status, task.attempt) == (Status.FAILED, 3)
    assert Attempt.objects.filter(task_id=task.id).count() == 3


# -- when


def moments(path: Path, task_id: UUID) -> list[float]:
    """When the attempts of a task began."""
    return [float(moment) for one, _, moment in lines(path) if one == str(task_id)]


def test_a_retry_comes_when_it_was_asked_for_and_not_before(worker: RunningWorker, tmp_path: Path) -> None:
    payload = {"path": str(tmp_path / "ran"), "seconds": 1.5}

    wait_finished(enqueue("antic.asks_to_wait", payload=payload))

    (_, first), (_, second) = lines(tmp_path / "ran")
    assert 1.5 <= float(second) - float(first) < 3


def test_a_retry_waits_for_its_backoff_and_not_much_longer(worker: RunningWorker, tmp_path: Path) -> None:
    """0.4 s, then 0.8 s, each times 0.5 to 1."""
    task_id = enqueue("antic.notes_the_time", payload={"path": str(tmp_path / "ran"), "times": 2})

    wait_finished(task_id)

    first, second, third = moments(tmp_path / "ran", task_id)
    assert 0.2 <= second - first < 0.4 + 1.5
    assert 0.4 <= third - second < 0.8 + 1.5


def test_no_attempt_begins_before_run_at_and_each_within_a_second(
    worker: RunningWorker, tmp_path: Path
) -> None:
    now = timezone.now()
    due = {}
    for tenth in range(20):
        run_at = now + timedelta(seconds=0.5 + tenth / 10)
        payload = {"path": str(tmp_path / "ran")}
        due[enqueue("antic.notes_the_time", run_at=run_at, payload=payload)] = run_at.timestamp()

    wait_all_finished()

    late = [float(moment) - due[UUID(one)] for one, _, moment in lines(tmp_path / "ran")]
    assert len(late) == 20
    assert min(late) >= 0
    assert max(late) < 1
