"""One thing done to all tasks that match: each once, none left out, whatever ends it in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.utils import timezone

from tasks import lifecycle, operations
from tasks.models import Attempt, Operation, Task
from tasks.operations import HANDLER, VERBS
from tasks.selection import Counted, Selection
from tasks.states import Status
from tasks.tests.rows import HANDLER as ECHO
from tasks.tests.rows import MakeTask, columns_for
from tasks.tests.workers import (
    RunWorkers,
    enqueue,
    run_workers,
    wait_all_finished,
    wait_finished,
    wait_until,
)

__all__ = ["run_workers"]


def make_many(number: int, status: Status = Status.FAILED, **columns: Any) -> list[UUID]:
    given = {"handler": ECHO, "created_at": timezone.now(), **columns_for(status), **columns}
    return [row.pk for row in Task.objects.bulk_create(Task(status=status, **given) for _ in range(number))]


def begin(verb: str = "retry", user: User | None = None, **chosen: Any) -> Operation:
    return operations.start(
        VERBS[verb],
        Selection(**chosen),
        newest=operations.newest(),
        counted=Counted(7, whole=True),
        user_key=str(user.pk if user else 0),
        user_name="ada",
    )


def finish(operation: Operation) -> Operation:
    while operations.advance(operation.pk):
        pass
    operation.refresh_from_db()
    return operation


def its_task(operation: Operation) -> Task:
    task = operations.task_of(operation)
    assert task is not None
    return task


def in_status(status: Status) -> set[UUID]:
    return set(Task.objects.filter(status=status).exclude(handler=HANDLER).values_list("pk", flat=True))


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "AT_ONCE", 4)


@pytest.mark.usefixtures("few_at_once")
def test_all_that_match_are_moved_once_and_nothing_else(db: None) -> None:
    matching = make_many(11, queue="mail")
    others = [*make_many(3), *make_many(2, Status.COMPLETED, queue="mail")]

    done = finish(begin(filters={"status": "failed", "queue": "mail"}))

    assert in_status(Status.PENDING) == {*matching}
    assert in_status(Status.FAILED) | in_status(Status.COMPLETED) == {*others}
    assert (done.asked, done.came_to["queued again"]) == (11, 11)
    assert done.ended_at is not None


def test_a_search_chooses_as_it_does_in_the_list(make_task: MakeTask) -> None:
    wanted = make_task(Status.FAILED, payload={"user": 42}, error={"type": "Timeout", "message": ""})
    make_task(Status.FAILED, payload={"user": 7}, error={"type": "Timeout", "message": ""})

    finish(begin(search="error:timeout payload.user:42"))

    assert in_status(Status.PENDING) == {wanted.pk}


def test_what_may_not_be_seen_does_not_choose(make_task: MakeTask) -> None:
    make_task(Status.FAILED, payload={"user": "secret"})

    done = finish(begin(search="secret", names_only=True))

    assert done.asked == 0


def test_what_is_made_or_fails_later_is_left_alone(make_task: MakeTask) -> None:
    before = make_task(Status.FAILED)
    operation = begin()
    later = make_task(Status.FAILED)

    finish(operation)

    assert in_status(Status.PENDING) == {before.pk}
    assert in_status(Status.FAILED) == {later.pk}


def test_cancel_leaves_out_its_own_task_and_other_operations(make_task: MakeTask) -> None:
    first = begin()
    pending, running = make_task(), make_task(Status.PROCESSING)

    done = finish(begin("cancel"))

    assert in_status(Status.CANCELLED) == {pending.pk}
    assert Task.objects.get(pk=running.pk).cancel_requested_at is not None
    assert done.came_to["asked to stop"] == 1
    for operation in (first, done):
        assert its_task(operation).status == Status.PENDING


def test_delete_takes_finished_tasks_with_their_attempts_alone(make_task: MakeTask) -> None:
    failed, pending = make_task(Status.FAILED), make_task()
    Attempt.objects.create(task=failed, number=1, fence=1, outcome="failed", ended_at=timezone.now())

    done = finish(begin("delete"))

    assert list(Task.objects.exclude(handler=HANDLER)) == [pending]
    assert not Attempt.objects.exists()
    assert operations.told(done.came_to) == "1 deleted."


def test_one_that_runs_again_meanwhile_is_not_deleted(make_task: MakeTask) -> None:
    """Between the look and the lock somebody retries it."""
    task = make_task(Status.FAILED)
    operation = begin("delete")
    ids, place = operations._next(operation)
    lifecycle.retry([task.pk])

    operations._commit(operation, ids, place)

    assert ids == [task.pk]
    assert Task.objects.filter(pk=task.pk).exists()


class Died(Exception):
    """As the process would, just before the commit."""


@pytest.mark.usefixtures("few_at_once")
def test_a_crash_in_any_step_repeats_nothing_and_leaves_nothing_out(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    matching = make_many(11)
    operation = begin()
    added, dies = operations.added, iter([True, False, True, True, False, False, False])

    def dying(*totals: Any) -> dict[str, int]:
        if next(dies):
            raise Died
        return added(*totals)

    monkeypatch.setattr(operations, "added", dying)
    crashes = 0
    while operation.ended_at is None:
        try:
            operations.advance(operation.pk)
        except Died:
            crashes += 1
        operation.refresh_from_db()

    assert crashes == 3
    assert (operation.asked, operation.came_to["queued again"]) == (11, 11)
    assert in_status(Status.PENDING) == {*matching}


@pytest.mark.usefixtures("few_at_once")
def test_of_two_runs_at_once_each_step_is_done_by_one(db: None) -> None:
    matching = make_many(6, Status.PENDING)
    operation = begin("cancel")
    stale = Operation.objects.get(pk=operation.pk)
    looked = operations._next(stale)

    operations.advance(operation.pk)
    operations._commit(stale, *looked)
    done = finish(operation)

    assert done.asked == 6
    assert in_status(Status.CANCELLED) == {*matching}


@pytest.mark.usefixtures("few_at_once")
def test_a_stop_ends_it_where_it_is_and_cancels_its_task(db: None) -> None:
    make_many(11)
    operation = begin()
    operations.advance(operation.pk)
    looked = operations._next(Operation.objects.get(pk=operation.pk))

    assert operations.stop(operation, by="bob")
    operations._commit(Operation.objects.get(pk=operation.pk), *looked)
    done = finish(operation)

    assert (done.asked, done.stopped_by, len(in_status(Status.PENDING))) == (4, "bob", 4)
    assert its_task(operation).status == Status.CANCELLED
    assert not operations.stop(operation, by="carol")


@pytest.mark.parametrize("loss", ["failed", "cancelled", "deleted"])
@pytest.mark.usefixtures("few_at_once")
def test_one_whose_task_is_lost_goes_on_where_it_was(db: None, loss: str) -> None:
    matching = make_many(6, Status.PENDING)
    operation = begin("cancel")
    operations.advance(operation.pk)
    operation.refresh_from_db()
    row = Task.objects.filter(handler=HANDLER)
    if loss == "deleted":
        row.delete()
    else:
        row.update(status=loss, finished_at=timezone.now())

    assert operations.go_on(operation)
    operation.refresh_from_db()

    assert its_task(operation).status == Status.PENDING
    assert finish(operation).asked == 6
    assert in_status(Status.CANCELLED) == {*matching}


def test_one_that_waits_or_has_ended_does_not_go_on(make_task: MakeTask) -> None:
    make_task(Status.FAILED)
    operation = begin()

    assert not operations.go_on(operation)
    assert not operations.go_on(finish(operation))
    assert Task.objects.filter(handler=HANDLER).count() == 1


# -- in turns


def run_a_turn(operation: Operation, task: Task) -> None:
    """As a worker runs that task, for one step."""
    operations.run(operation.pk, task_id=task.pk)
    ended = {"status": Status.COMPLETED, "finished_at": timezone.now(), "waiting_for": None}
    Task.objects.filter(pk=task.pk).update(**ended)
    operation.refresh_from_db()


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch, few_at_once: None) -> None:
    monkeypatch.setattr(operations, "TURN_SECONDS", 0)


@pytest.mark.usefixtures("short_turns")
def test_after_a_while_another_task_goes_on_with_it_and_lets_others_go_first(db: None) -> None:
    matching = make_many(11)
    operation = begin()
    first = its_task(operation)

    run_a_turn(operation, first)
    second = its_task(operation)

    assert operation.asked == 4
    assert second.pk != first.pk
    assert (second.status, second.waiting_for, second.ready_at) == (Status.PENDING, "time", None)
    for _ in range(3):
        run_a_turn(operation, its_task(operation))
    assert operation.ended_at is not None
    assert (operation.asked, operation.came_to["queued again"]) == (11, 11)
    assert in_status(Status.PENDING) == {*matching}


@pytest.mark.usefixtures("short_turns")
def test_a_task_that_died_after_it_handed_over_does_nothing_when_it_runs_again(db: None) -> None:
    make_many(11)
    operation = begin()
    first = its_task(operation)
    operations.run(operation.pk, task_id=first.pk)
    second = its_task(Operation.objects.get(pk=operation.pk))

    operations.run(operation.pk, task_id=first.pk)
    operations._hand_over(operation.pk, first.pk)  # as a run of it that was thought dead
    operation.refresh_from_db()

    assert (operation.asked, operation.task_id) == (4, second.pk)
    assert Task.objects.filter(handler=HANDLER).count() == 2


@pytest.mark.usefixtures("short_turns")
def test_a_task_that_dies_while_it_hands_over_still_has_it(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    make_many(11)
    operation = begin()
    first, save = its_task(operation), Operation.save

    def dying(row: Operation, *args: Any, **given: Any) -> None:
        save(row, *args, **given)
        if given["update_fields"] == ["task_id"]:
            raise Died

    with monkeypatch.context() as patched, pytest.raises(Died):
        patched.setattr(Operation, "save", dying)
        operations.run(operation.pk, task_id=first.pk)

    operation.refresh_from_db()
    assert (operation.asked, operation.task_id) == (4, first.pk)
    assert Task.objects.filter(handler=HANDLER).count() == 1
    run_a_turn(operation, first)
    assert operation.asked == 8


@pytest.mark.usefixtures("short_turns")
def test_who_looked_before_it_was_handed_over_stops_the_task_that_has_it_now(db: None) -> None:
    make_many(11)
    operation = begin()
    looked = Operation.objects.get(pk=operation.pk)
    run_a_turn(operation, its_task(operation))

    assert not operations.go_on(looked)
    assert operations.stop(looked, by="bob")

    assert its_task(operation).status == Status.CANCELLED
    assert Task.objects.filter(handler=HANDLER, status=Status.COMPLETED).count() == 1


def test_one_that_was_stopped_is_not_handed_over(db: None) -> None:
    make_many(3)
    operation = begin()
    operations.stop(operation, by="bob")

    operations._hand_over(operation.pk, its_task(operation).pk)

    assert Task.objects.filter(handler=HANDLER).count() == 1


def test_the_end_is_written_into_the_history_of_who_started_it(make_task: MakeTask) -> None:
    make_task(Status.FAILED)
    user = User.objects.create_user("ada")

    done = finish(begin(user=user))

    [entry] = LogEntry.objects.filter(object_id=done.pk)
    assert (entry.user, entry.get_change_message()) == (user, "Ended: 1 queued again.")


def test_one_whose_starter_is_gone_ends_all_the_same(make_task: MakeTask) -> None:
    make_task(Status.FAILED)

    assert finish(begin()).ended_at is not None


def test_what_ended_long_ago_is_forgotten_when_another_begins(db: None) -> None:
    old, young = begin(), begin()
    Operation.objects.filter(pk=old.pk).update(ended_at=timezone.now() - operations.KEPT_FOR * 1.1)
    finish(young)

    new = begin()

    assert set(Operation.objects.all()) == {young, new}


def test_http_cannot_ask_for_one(client: Any, db: None) -> None:
    answer = client.post("/tasks", {"handler": HANDLER}, content_type="application/json")

    assert answer.status_code == 422


# -- with real workers


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", ["kill -9", "SIGTERM"])
def test_an_operation_outlives_its_worker(run_workers: RunWorkers, end: str) -> None:
    later = {"ready_at": None, "waiting_for": "time", "run_at": timezone.now() + operations.KEPT_FOR}
    matching = make_many(1500, Status.PENDING, **later)
    first = run_workers("--n", "1")
    first.wait_executors(1)
    operation = begin("cancel")

    def reached() -> Operation:
        return Operation.objects.get(pk=operation.pk)

    wait_until(lambda: reached().asked > 0, "it has begun")
    first.kill_everything() if end == "kill -9" else first.signal()
    run_workers("--n", "1", TASKSERVICE_LEASE_SECONDS="1")
    done = wait_until(lambda: it if (it := reached()).ended_at else None, "it has ended", patience=60)

    assert done is not None
    assert (done.asked, done.came_to["cancelled"]) == (1500, 1500)
    assert in_status(Status.CANCELLED) == {*matching}
    assert done.task_id is not None
    assert wait_finished(done.task_id).result == done.came_to


@pytest.mark.django_db(transaction=True)
def test_other_tasks_get_the_only_executor_while_an_operation_goes_on(
    run_workers: RunWorkers, tmp_path: Path
) -> None:
    later = {"ready_at": None, "waiting_for": "time", "run_at": timezone.now() + operations.KEPT_FOR}
    matching = make_many(3000, Status.PENDING, **later)
    operation = begin("cancel")
    run_workers("--n", "1", TASKSERVICE_APPS="tasks.tests.faults,tasks.tests.hasty")

    def reached() -> Operation:
        return Operation.objects.get(pk=operation.pk)

    wait_until(lambda: reached().asked > 0, "it has begun")
    other = enqueue("fault.record", payload={"path": str(tmp_path / "ran")}, priority=-100)
    wait_finished(other)
    meanwhile = reached()
    wait_until(lambda: reached().ended_at, "it has ended", patience=60)

    assert meanwhile.ended_at is None
    assert (reached().asked, reached().came_to["cancelled"]) == (3000, 3000)
    assert in_status(Status.CANCELLED) == {*matching}
    wait_all_finished()
    turns = Task.objects.filter(handler=HANDLER)
    assert {(turn.status, turn.attempt) for turn in turns} == {(Status.COMPLETED, 1)}
    assert turns.count() > 1
