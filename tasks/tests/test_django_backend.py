"""The contract of ``django.tasks``, through its public API."""

from __future__ import annotations

import copy
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction
from django.tasks import TaskResultStatus, task_backends
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
from django.tasks.signals import task_enqueued
from django.utils import timezone
from pytest_django import Settings

from tasks import bell, lifecycle
from tasks.backend import DatabaseBackend, result_from
from tasks.backoff import Backoff
from tasks.contract import Cancelled, Crashed, ErrorReport, Failed, Lease, Outcome, Released, Succeeded
from tasks.errors import TaskCancelled, TaskCrashed, TaskExpired, TooLarge
from tasks.models import Attempt, Task
from tasks.models.task import database
from tasks.registry import find
from tasks.sqlite.base import DatabaseWrapper
from tasks.states import Status, WaitingFor
from tasks.tests.rows import MakeTask, claimant
from tasks.tests.shop import tasks as jobs

pytestmark = pytest.mark.django_db

Receivers = Callable[[Callable[..., None]], None]


@pytest.fixture
def on_enqueued() -> Iterator[Receivers]:
    """Connect receivers to ``task_enqueued`` until the test ends."""
    connected: list[Callable[..., None]] = []

    def connect(receiver: Callable[..., None]) -> None:
        task_enqueued.connect(receiver)
        connected.append(receiver)

    yield connect
    for receiver in connected:
        task_enqueued.disconnect(receiver)


def claim(queue: str = "default", worker_id: str = "host:1:worker") -> Lease:
    """Take the task that waits in the queue, whenever it was to run."""
    Task.objects.filter(queue=queue, status=Status.PENDING).update(ready_at=timezone.now(), waiting_for=None)
    handlers = tuple(Task.objects.values_list("handler", flat=True))
    [lease] = lifecycle.claim(
        claimant(queue, worker_id=worker_id, handlers=handlers), limit=1, now=timezone.now()
    )
    return lease


def settle(lease: Lease, outcome: Outcome) -> None:
    assert lifecycle.settle([(lease, outcome)], now=timezone.now()).lost == []


def failure(message: str = "no") -> Failed:
    return Failed(ErrorReport("builtins.ValueError", message, f"Traceback …\nValueError: {message}"))


# -- enqueueing


def test_the_backend_supports_all_that_a_backend_can() -> None:
    backend = task_backends["default"]

    assert isinstance(backend, DatabaseBackend)
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority


def test_the_row_holds_what_was_asked_and_what_the_handler_says() -> None:
    result = jobs.report.enqueue("May")

    row = Task.objects.get(pk=result.id)
    assert (row.handler, row.args, row.payload) == ("tests.report", ["May"], {})
    assert (row.queue, row.priority, row.title, row.tags) == (
        "reports",
        7,
        "Monthly report",
        ["paper", "monthly"],
    )
    assert (row.max_attempts, row.timeout_seconds, row.owner) == (3, 90, "")
    assert row.status == Status.PENDING
    assert row.ready_at is not None


def test_a_handler_without_a_public_name_is_known_by_its_path() -> None:
    result = jobs.double.enqueue(number=4)

    row = Task.objects.get(pk=result.id)
    assert (row.handler, row.args, row.payload) == ("tasks.tests.shop.tasks.double", [], {"number": 4})


def test_using_changes_what_the_row_holds() -> None:
    changed = jobs.report.using(
        queue_name="night", priority=-3, title="Again", tags=["x"], max_attempts=9, timeout=None
    )

    row = Task.objects.get(pk=changed.enqueue("May").id)

    assert (row.queue, row.priority, row.title, row.tags) == ("night", -3, "Again", ["x"])
    assert (row.max_attempts, row.timeout_seconds) == (9, None)


@pytest.mark.parametrize(("given", "stored"), [(True, 1), (5.0, 5), (-100, -100), (100, 100)])
def test_priority_is_stored_as_an_integer(given: Any, stored: int) -> None:
    result = jobs.note.using(priority=given).enqueue()

    kept = Task.objects.get(pk=result.id).priority
    assert (kept, type(kept)) == (stored, int)


def test_run_after_is_the_time_before_which_no_attempt_starts() -> None:
    tomorrow = timezone.now() + timedelta(days=1)

    result = jobs.note.using(run_after=tomorrow).enqueue()

    row = Task.objects.get(pk=result.id)
    assert (row.run_at, row.ready_at, row.waiting_for) == (tomorrow, None, WaitingFor.TIME)
    assert jobs.note.get_result(result.id).task.run_after == tomorrow


def test_the_result_of_enqueue_is_what_get_result_reads() -> None:
    result = jobs.report.using(priority=3, tags=["y"]).enqueue("May", *(), **{})

    read = jobs.report.get_result(result.id)

    assert read == result
    assert read.task == jobs.report.using(priority=3, tags=["y"])
    assert read.status == TaskResultStatus.READY
    assert (read.attempts, read.errors, read.backend) == (0, [], "default")
    assert read.started_at is read.last_attempted_at is read.finished_at is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((1, (2, 3)), [1, [2, 3]]),
        (b"bytes", "bytes"),
        ({"key": ("a", None, True, 0.5)}, {"key": ["a", None, True, 0.5]}),
        (Status.PENDING, "pending"),
        (-(2**63), -(2**63)),
        (2**63 - 1, 2**63 - 1),
        ("ünïcode 🎉", "ünïcode 🎉"),
        ({}, {}),
    ],
)
def test_enqueue_returns_the_arguments_as_the_handler_will_get_them(given: Any, kept: Any) -> None:
    result = jobs.note.enqueue(given, key=given)

    read = jobs.note.get_result(result.id)
    assert (result.args, result.kwargs) == ([kept], {"key": kept})
    assert (read.args, read.kwargs) == ([kept], {"key": kept})
    assert [type(value) for value in read.args] == [type(value) for value in result.args] == [type(kept)]


def circle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


UNKEEPABLE = {
    "NaN": math.nan,
    "infinity": [-math.inf],
    "a key that is no string": {1: 2},
    "NUL": "a\0b",
    "NUL in a key": {"a\0b": 1},
    "a lone surrogate": "\ud800",
    "beyond 64 bits": 2**63,
    "a set": {1, 2},
    "a datetime": datetime(2026, 1, 12, tzinfo=UTC),
    "bytes that are no text": b"\xff",
    "a circle": circle(),
    "an object": object(),
}


@pytest.mark.parametrize("value", UNKEEPABLE.values(), ids=UNKEEPABLE)
def test_arguments_that_cannot_be_kept_are_refused_before_anything_is_written(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        jobs.note.enqueue(value)
    with pytest.raises((TypeError, ValueError)):
        jobs.note.enqueue(key=[value])

    assert not Task.objects.exists()


def test_a_refused_enqueue_leaves_the_callers_transaction_usable() -> None:
    with transaction.atomic(using=database()):
        with pytest.raises(TooLarge):
            jobs.note.enqueue("x" * 300_000)
        with pytest.raises(ValueError, match="64 bits"):
            jobs.note.enqueue(2**64)
        result = jobs.note.enqueue()

    assert jobs.note.get_result(result.id).status == TaskResultStatus.READY


def test_enqueue_joins_the_callers_transaction() -> None:
    with pytest.raises(RuntimeError, match="changed my mind"), transaction.atomic(using=database()):
        result = jobs.note.enqueue()
        raise RuntimeError("changed my mind")

    with pytest.raises(TaskResultDoesNotExist):
        jobs.note.get_result(result.id)


def test_aenqueue_joins_the_callers_transaction() -> None:
    with pytest.raises(RuntimeError, match="changed my mind"), transaction.atomic(using=database()):
        result = async_to_sync(jobs.note.aenqueue)()
        raise RuntimeError("changed my mind")

    with pytest.raises(TaskResultDoesNotExist):
        jobs.note.get_result(result.id)


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_workers_are_woken_by_the_commit_and_not_before() -> None:
    connection = connections[database()]
    assert isinstance(connection, DatabaseWrapper)
    path = connection.path + bell.BELL
    with suppress(FileExistsError):
        os.mkfifo(path)
    heard = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        with transaction.atomic(using=database()):
            jobs.note.enqueue()
            with pytest.raises(BlockingIOError):
                os.read(heard, 1)

        assert os.read(heard, 1) == b"!"
    finally:
        os.close(heard)


def test_an_async_handler_is_enqueued_and_read_by_async_code() -> None:
    async def enqueue_and_read() -> tuple[Any, Any]:
        result = await jobs.double_async.aenqueue(21)
        read = await jobs.double_async.aget_result(result.id)
        await read.arefresh()
        return result, read

    result, read = async_to_sync(enqueue_and_read)()

    assert read == result
    assert read.args == [21]


# -- task_enqueued


def test_task_enqueued_is_sent_at_once_by_the_backends_class(on_enqueued: Receivers) -> None:
    heard: list[tuple[Any, Any]] = []

    def hear(sender: Any, task_result: Any, **kwargs: Any) -> None:
        heard.append((sender, task_result))

    on_enqueued(hear)
    with transaction.atomic(using=database()):
        result = jobs.note.enqueue()

        assert heard == [(DatabaseBackend, result)]


def test_a_receiver_that_raises_does_not_make_the_task_look_refused(on_enqueued: Receivers) -> None:
    def stumble(**kwargs: Any) -> None:
        raise RuntimeError("a receiver's own error")

    on_enqueued(stumble)
    result = jobs.note.enqueue()

    assert jobs.note.get_result(result.id).status == TaskResultStatus.READY


# -- what is refused


class Methods:
    @staticmethod
    def static() -> None: ...


def test_a_method_is_no_handler() -> None:
    with pytest.raises(InvalidTask, match="function of a module"):
        task_backends["default"].task_class(func=Methods.static)


def test_a_handler_that_others_cannot_import_is_refused_when_it_is_enqueued(own_registry: None) -> None:
    renamed = jobs.task()(jobs.plain)  # in its module, that name stays a function

    with pytest.raises(InvalidTask, match="cannot be imported as a Task"):
        renamed.enqueue()

    assert not Task.objects.exists()


def test_a_function_of_main_is_refused_when_it_is_enqueued() -> None:
    script = (
        "import django; django.setup()\n"
        "from django.tasks import task\n"
        "from django.tasks.exceptions import InvalidTask\n"
        "@task\n"
        "def work(): pass\n"
        "try: work.enqueue()\n"
        "except InvalidTask as error: print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "__main__.work cannot be imported as a Task" in done.stdout


def test_a_task_of_another_backend_is_refused(settings: Settings) -> None:
    backend = {"BACKEND": "tasks.backend.DatabaseBackend"}
    settings.TASKS = {
        "default": backend,
        "other": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"},
    }
    theirs: Any = task_backends["other"].task_class(func=jobs.note.func, backend="other")

    with pytest.raises(InvalidTask, match="belongs to another backend"):
        theirs.using(backend="default").enqueue()


def test_a_queue_that_the_settings_do_not_list_is_refused(settings: Settings) -> None:
    settings.TASKS = {"default": {"BACKEND": "tasks.backend.DatabaseBackend", "QUEUES": ["default", "mail"]}}

    jobs.note.using(queue_name="mail").enqueue()
    with pytest.raises(InvalidTask, match="'post' is not valid"):
        jobs.note.using(queue_name="post")


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 101},
        {"priority": -101},
        {"priority": 1.5},
        {"priority": "5"},
        {"priority": math.nan},
        {"run_after": datetime(2026, 1, 12)},
        {"run_after": timedelta(hours=1)},
        {"run_after": "tomorrow"},
        {"queue_name": "a,b"},
        {"queue_name": ""},
        {"queue_name": "q" * 65},
        {"queue_name": 5},
        {"max_attempts": 0},
        {"max_attempts": 1_001},
        {"max_attempts": True},
        {"max_attempts": "3"},
        {"timeout": timedelta(0)},
        {"timeout": timedelta(days=20)},
        {"timeout": 30},
        {"backoff": 30},
        {"title": "t" * 1_001},
        {"title": "a\0b"},
        {"title": None},
        {"tags": "mail"},
        {"tags": None},
        {"tags": ["t" * 65]},
        {"tags": ["t"] * 21},
        {"tags": [1]},
        {"tags": ["\ud800"]},
    ],
    ids=repr,
)
def test_options_that_make_no_sense_are_an_invalid_task(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask):
        jobs.note.using(**options)


# -- results


def test_every_status_has_one_of_djangos(make_task: MakeTask) -> None:
    folded = {
        status: result_from(make_task(status), (), find("demo.echo"), backend="default").status
        for status in Status
    }

    assert folded == {
        Status.PENDING: TaskResultStatus.READY,
        Status.PROCESSING: TaskResultStatus.RUNNING,
        Status.COMPLETED: TaskResultStatus.SUCCESSFUL,
        Status.FAILED: TaskResultStatus.FAILED,
        Status.CANCELLED: TaskResultStatus.FAILED,
    }


def test_a_result_follows_the_life_of_its_task() -> None:
    result = jobs.double.enqueue(21)

    first = claim(worker_id="host:1:first")
    result.refresh()
    assert (result.status, result.attempts, result.worker_ids) == (
        TaskResultStatus.RUNNING,
        1,
        ["host:1:first"],
    )
    assert result.started_at == result.last_attempted_at == first.claimed_at
    with pytest.raises(ValueError, match="not finished yet"):
        _ = result.return_value

    settle(first, failure())
    result.refresh()
    assert (result.status, result.attempts, result.finished_at) == (TaskResultStatus.READY, 1, None)
    assert [error.exception_class for error in result.errors] == [ValueError]
    assert result.errors[0].traceback == "Traceback …\nValueError: no"

    second = claim(worker_id="host:2:second")
    result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.RUNNING, 2)
    assert (result.started_at, result.last_attempted_at) == (first.claimed_at, second.claimed_at)

    settle(second, Succeeded("42"))
    result.refresh()
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 42)
    assert (result.attempts, len(result.errors)) == (2, 1)
    assert result.worker_ids == ["host:1:first", "host:2:second"]
    assert result.is_finished
    assert result.finished_at is not None


def test_errors_are_in_the_order_of_the_attempts() -> None:
    result = jobs.note.using(max_attempts=3, backoff=Backoff(initial=timedelta(0))).enqueue()

    for number in (1, 2, 3):
        settle(claim(), failure(f"number {number}"))
    result.refresh()

    assert result.status == TaskResultStatus.FAILED
    assert [error.traceback.split()[-1] for error in result.errors] == ["1", "2", "3"]
    assert result.attempts == 3
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value


def test_a_crash_has_an_error_although_nothing_was_raised() -> None:
    result = jobs.note.using(max_attempts=1).enqueue()

    settle(claim(), Crashed("killed by SIGSEGV"))
    result.refresh()

    [error] = result.errors
    assert error.exception_class is TaskCrashed
    assert "killed by SIGSEGV" in error.traceback


def test_a_task_cancelled_before_it_ran_says_so_in_its_errors() -> None:
    result = jobs.note.enqueue()

    lifecycle.cancel([Task.objects.get().pk])
    result.refresh()

    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 0)
    assert [error.exception_class for error in result.errors] == [TaskCancelled]


def test_a_task_cancelled_between_two_attempts_keeps_the_first_ones_error() -> None:
    result = jobs.note.enqueue()
    settle(claim(), failure())

    lifecycle.cancel([Task.objects.get().pk])
    result.refresh()

    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 1)
    assert [error.exception_class for error in result.errors] == [ValueError, TaskCancelled]


@pytest.mark.parametrize("outcome", [Cancelled(), Released(started=True), Released(started=False)], ids=repr)
def test_a_task_cancelled_while_it_ran_has_one_error(outcome: Outcome) -> None:
    result = jobs.note.enqueue()
    lease = claim()

    lifecycle.cancel([lease.task_id])
    settle(lease, outcome)
    result.refresh()

    assert result.status == TaskResultStatus.FAILED
    assert [error.exception_class for error in result.errors] == [TaskCancelled]


def test_a_task_that_expired_says_so_in_its_errors() -> None:
    result = jobs.note.enqueue()
    Task.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    lifecycle.expire(now=timezone.now())
    result.refresh()

    assert result.status == TaskResultStatus.FAILED
    assert [error.exception_class for error in result.errors] == [TaskExpired]


def test_a_task_that_was_handed_back_has_not_been_attempted() -> None:
    result = jobs.note.enqueue()

    settle(claim(), Released(started=False))
    result.refresh()

    assert (result.status, result.attempts) == (TaskResultStatus.READY, 0)
    assert result.started_at is result.last_attempted_at is None


def test_attempts_count_on_when_a_success_is_run_again_by_hand() -> None:
    result = jobs.double.enqueue(21)
    settle(claim(worker_id="host:1:first"), Succeeded("42"))

    lifecycle.retry([Task.objects.get().pk])
    again = claim(worker_id="host:2:second")
    result.refresh()

    assert (result.status, result.attempts) == (TaskResultStatus.RUNNING, again.attempt)
    assert result.worker_ids == ["", "host:2:second"]  # the first one's is not kept


def test_what_ended_after_the_row_was_read_is_left_out() -> None:
    result = jobs.note.enqueue()
    lease = claim()
    row = Task.objects.get()
    settle(lease, failure())

    seen = result_from(row, list(Attempt.objects.all()), jobs.note, backend="default")

    assert (seen.id, seen.status) == (result.id, TaskResultStatus.RUNNING)
    assert (seen.attempts, seen.errors) == (1, [])


@pytest.mark.parametrize(
    "result_id", ["", "no uuid", "0" * 31, "0199aaaa-0000-7000-8000-000000000000", None, 5, "\0"], ids=repr
)
def test_an_id_that_is_unknown_or_malformed_has_no_result(result_id: Any) -> None:
    with pytest.raises(TaskResultDoesNotExist):
        jobs.note.get_result(result_id)
    with pytest.raises(TaskResultDoesNotExist):
        async_to_sync(jobs.note.aget_result)(result_id)


def test_refresh_says_that_the_task_was_deleted() -> None:
    result = jobs.note.enqueue()
    Task.objects.all().delete()

    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()


def test_the_result_of_another_task_is_a_mismatch() -> None:
    result = jobs.double.enqueue(1)

    with pytest.raises(TaskResultMismatch):
        jobs.note.get_result(result.id)


def test_a_result_whose_handler_is_gone_is_an_invalid_task_that_names_it(make_task: MakeTask) -> None:
    row = make_task(handler="shop.tasks.send_receipt")

    with pytest.raises(InvalidTask, match=r"shop\.tasks\.send_receipt.*not in the code"):
        task_backends["default"].get_result(str(row.id))


@pytest.mark.parametrize("path", ["os.system", "tasks.tests.shop.tasks.plain", "tasks.tests.shop.tasks.Any"])
def test_a_stored_path_becomes_nothing_but_a_task(make_task: MakeTask, path: str) -> None:
    row = make_task(handler=path)

    with pytest.raises(InvalidTask, match="is no Task"):
        task_backends["default"].get_result(str(row.id))


def test_a_handler_that_no_app_brings_is_found_by_its_path(make_task: MakeTask) -> None:
    row = make_task(handler="tasks.tests.far_away.jobs.distant")

    result = task_backends["default"].get_result(str(row.id))

    assert result.task.name == "distant"


def test_a_result_is_read_although_its_queue_is_not_listed_any_more(settings: Settings) -> None:
    result = jobs.report.enqueue("May")
    settings.TASKS = {"default": {"BACKEND": "tasks.backend.DatabaseBackend", "QUEUES": ["default"]}}

    read = task_backends["default"].get_result(result.id)

    assert read.task.queue_name == "reports"


def test_two_aliases_share_the_table_and_results_keep_theirs(settings: Settings) -> None:
    backend = {"BACKEND": "tasks.backend.DatabaseBackend", "QUEUES": []}
    settings.TASKS = {"default": backend, "second": backend}

    result = jobs.double.using(backend="second").enqueue(21)

    assert (result.backend, result.task.backend) == ("second", "second")
    settle(claim(), Succeeded("42"))
    result.refresh()
    assert result.return_value == 42
    by_the_other = jobs.double.get_result(result.id)
    assert (by_the_other.backend, by_the_other.task.backend) == ("default", "default")
    assert by_the_other.return_value == 42


def test_results_can_be_pickled_and_copied() -> None:
    result = jobs.report.using(timeout=timedelta(seconds=5)).enqueue("May")

    assert pickle.loads(pickle.dumps(result)) == result
    assert copy.deepcopy(result) == result


@pytest.mark.django_db(transaction=True)
def test_a_result_is_read_from_any_thread() -> None:
    result = jobs.double.enqueue(21)

    def read() -> Any:
        try:
            return jobs.double.get_result(result.id)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(read).result() == result


def test_the_backend_is_built_before_the_apps_are_ready() -> None:
    script = "from django.tasks import task_backends; print(type(task_backends['default']).__name__)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "DatabaseBackend"
