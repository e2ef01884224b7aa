"""The ledger's turns, without its thread: what one commit holds, and what a failure leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import lifecycle
from tasks.contract import ErrorReport, Failed, Lease, Succeeded
from tasks.lifecycle import REFUSED
from tasks.models import Attempt, Task
from tasks.models.task import database
from tasks.states import Status, WaitingFor
from tasks.tests.rows import LeasedTask, MakeTask, Steal, claimant
from tasks.tests.workers import wait_until
from tasks.worker.ledger import Ledger, Wish

pytestmark = pytest.mark.django_db(transaction=True)

WORKER = claimant().worker_id
NO = Failed(ErrorReport("builtins.ValueError", "no"))
UNSTORABLE = Succeeded('"\\u0000')  # no JSON: it got past the executor


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(claimant())


@contextmanager
def commits() -> Iterator[list[str]]:
    """The transactions that this thread committed, one entry each."""
    found: list[str] = []
    with CaptureQueriesContext(connections[database()]) as captured:
        yield found
    found += [query["sql"] for query in captured.captured_queries if query["sql"] == "COMMIT"]


def status_of(lease: Lease) -> str:
    return str(Task.objects.get(pk=lease.task_id).status)


# -- one turn


def test_what_ended_is_settled_and_what_is_next_is_claimed_in_one_commit(
    ledger: Ledger, leased_task: LeasedTask, make_task: MakeTask
) -> None:
    done, failed = leased_task(), leased_task()
    waiting = [make_task().pk for _ in range(3)]

    with commits() as committed:
        turned = ledger.turn(Wish([(done, Succeeded("1")), (failed, NO)], idle=2))

    assert len(committed) == 1
    assert [lease.task_id for lease in turned.leases] == waiting[:2]
    assert len(turned.settlement.written) == 2
    assert (status_of(done), status_of(failed)) == (Status.COMPLETED, Status.PENDING)


@pytest.mark.parametrize("wish", [Wish(), Wish(idle=3), Wish(idle=3, ahead=60)])
def test_with_nothing_to_write_there_is_no_transaction(ledger: Ledger, wish: Wish) -> None:
    with commits() as committed:
        turned = ledger.turn(wish)

    assert committed == []
    assert turned.leases == ()


def test_without_room_nothing_is_claimed_and_no_transaction_begun(
    ledger: Ledger, make_task: MakeTask
) -> None:
    task = make_task()

    with commits() as committed:
        turned = ledger.turn(Wish())

    assert (committed, turned.leases) == ([], ())
    task.refresh_from_db()
    assert task.status == Status.PENDING


def test_tasks_of_queues_that_it_does_not_serve_cost_no_transaction(make_task: MakeTask) -> None:
    make_task(queue="others")

    with commits() as committed:
        Ledger(claimant("mine")).turn(Wish(idle=3))

    assert committed == []


def test_a_paused_queue_costs_no_transaction(ledger: Ledger, make_task: MakeTask) -> None:
    make_task(queue="paused")
    lifecycle.pause(["paused"])

    with commits() as committed:
        assert ledger.turn(Wish(idle=3)).leases == ()

    assert committed == []


def test_what_is_due_is_promoted_and_claimed_by_the_same_turn(ledger: Ledger, make_task: MakeTask) -> None:
    now = timezone.now()
    due = make_task(run_at=now - timedelta(seconds=1), ready_at=None, waiting_for=WaitingFor.TIME)

    [lease] = ledger.turn(Wish(idle=1)).leases

    assert lease.task_id == due.pk


@pytest.mark.parametrize("has_outcome", [False, True])
def test_without_room_what_is_due_is_made_ready_in_the_one_commit_of_the_turn(
    ledger: Ledger, leased_task: LeasedTask, make_task: MakeTask, has_outcome: bool
) -> None:
    """Else nobody who is asked would count it, and the doctor would call it forgotten."""
    now = timezone.now()
    outcomes = [(leased_task(), Succeeded("1"))] if has_outcome else []
    due = make_task(run_at=now - timedelta(minutes=5), ready_at=None, waiting_for=WaitingFor.TIME)
    later = make_task(run_at=now + timedelta(hours=1), ready_at=None, waiting_for=WaitingFor.TIME)

    with commits() as committed:
        turned = ledger.turn(Wish(outcomes))

    assert (len(committed), turned.leases) == (1, ())
    due.refresh_from_db()
    assert due.status == Status.PENDING
    assert due.ready_at is not None
    assert turned.due_in is not None
    assert turned.due_in > timedelta(minutes=50)  # the later one's
    later.refresh_from_db()
    assert later.ready_at is None


def test_a_turn_tells_when_the_next_waiting_task_is_due(ledger: Ledger, make_task: MakeTask) -> None:
    soon = timezone.now() + timedelta(seconds=10)
    make_task(run_at=soon, ready_at=None, waiting_for=WaitingFor.TIME)

    for wish in (Wish(), Wish(idle=1)):
        due_in = ledger.turn(wish).due_in
        assert due_in is not None
        assert timedelta(seconds=5) < due_in <= timedelta(seconds=10)


def test_a_turn_names_the_running_tasks_that_somebody_asked_to_stop(
    ledger: Ledger, make_task: MakeTask
) -> None:
    now = timezone.now()
    asked = make_task(Status.PROCESSING, worker_id=WORKER, cancel_requested_at=now)
    make_task(Status.PROCESSING, worker_id=WORKER)
    make_task(Status.PROCESSING, worker_id="host:2:other", cancel_requested_at=now)

    assert ledger.turn(Wish()).cancelled == {asked.pk}


def test_an_outcome_whose_lease_was_lost_is_told_and_writes_nothing(
    ledger: Ledger, leased_task: LeasedTask, steal: Steal
) -> None:
    stale = leased_task()
    steal(stale)

    turned = ledger.turn(Wish([(stale, Succeeded("1"))]))

    assert list(turned.settlement.lost) == [stale]
    assert status_of(stale) == Status.PROCESSING


def test_a_task_on_its_last_attempt_is_claimed_only_for_an_idle_executor(
    ledger: Ledger, make_task: MakeTask
) -> None:
    for _ in range(3):
        make_task(max_attempts=1)
    patient = make_task(max_attempts=2)

    leases = ledger.turn(Wish(idle=1, ahead=10)).leases

    assert len(leases) == 2
    assert leases[0].attempts_left == 0
    assert leases[1].task_id == patient.pk


# -- turns that fail


def test_a_refused_value_fails_its_turn_and_nothing_is_written(
    ledger: Ledger, leased_task: LeasedTask
) -> None:
    good, bad = leased_task(), leased_task()

    with pytest.raises(REFUSED):
        ledger.turn(Wish([(good, Succeeded("1")), (bad, UNSTORABLE)], idle=3))

    assert (status_of(good), status_of(bad)) == (Status.PROCESSING, Status.PROCESSING)


def test_a_careful_turn_fails_only_the_refused_task_and_for_good(
    ledger: Ledger, leased_task: LeasedTask
) -> None:
    good, bad, failed = leased_task(), leased_task(), leased_task()

    turned = ledger.careful_turn(Wish([(good, Succeeded("1")), (bad, UNSTORABLE), (failed, NO)]))

    assert len(turned.settlement.written) == 3
    assert (status_of(good), status_of(bad), status_of(failed)) == (
        Status.COMPLETED,
        Status.FAILED,
        Status.PENDING,
    )
    assert Attempt.objects.get(task_id=bad.task_id).error_type == "tasks.errors.UnstorableResult"


def test_a_careful_turn_is_one_commit(ledger: Ledger, leased_task: LeasedTask) -> None:
    pairs = [(leased_task(), Succeeded("1")) for _ in range(5)]

    with commits() as committed:
        ledger.careful_turn(Wish(pairs))

    assert len(committed) == 1


def test_a_turn_that_fails_after_its_last_statement_has_written_nothing(
    ledger: Ledger, leased_task: LeasedTask, make_task: MakeTask
) -> None:
    """Else there would be leases that nobody knows of."""
    done, waiting = leased_task(), make_task()

    with pytest.raises(OperationalError), failing_after("WITH picked"):
        ledger.turn(Wish([(done, Succeeded("1"))], idle=2))

    waiting.refresh_from_db()
    assert (status_of(done), waiting.status) == (Status.PROCESSING, Status.PENDING)


@contextmanager
def failing_after(words: str) -> Iterator[None]:
    """After a statement that begins with the words the database is gone."""

    def execute(run: Callable[..., Any], sql: str, *rest: Any) -> Any:
        answer = run(sql, *rest)
        if sql.startswith(words):
            raise OperationalError("gone")
        return answer

    with connections[database()].execute_wrapper(execute):
        yield


# -- the thread


@pytest.fixture
def running(ledger: Ledger) -> Iterator[Ledger]:
    ledger.start()
    yield ledger
    ledger.close()


def done_by(ledger: Ledger, job: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What came of a job in the ledger's thread."""
    heard: list[tuple[Any, Exception | None]] = []
    ledger.submit(job, lambda result, error: heard.append((result, error)))

    def is_heard() -> bool:
        ledger.collect()
        return bool(heard)

    wait_until(is_heard, "the job was done")
    return heard[0]


def test_errands_are_done_in_its_own_thread_and_told_in_the_callers(running: Ledger) -> None:
    name, error = done_by(running, lambda: threading.current_thread().name)

    assert (name, error) == ("ledger", None)
    assert not running.busy


def test_a_job_that_fails_is_told_and_the_next_one_is_done_all_the_same(
    running: Ledger, make_task: MakeTask
) -> None:
    task = make_task()

    def fail() -> None:
        connections[database()].ensure_connection()
        raise DatabaseError("as asked")

    result, error = done_by(running, fail)

    assert result is None
    assert str(error) == "as asked"
    turned, error = done_by(running, lambda: running.turn(Wish(idle=1)))
    assert error is None
    assert [lease.task_id for lease in turned.leases] == [task.pk]


@pytest.mark.sqlite
def test_a_commit_of_somebody_who_does_not_ring_stirs_it(running: Ledger, make_task: MakeTask) -> None:
    done_by(running, lambda: running.turn(Wish()))
    wait_until(lambda: running._version is not None, "it has looked once")
    running.stirred = False

    make_task()

    wait_until(lambda: running.stirred, "it has seen the commit")


@pytest.mark.sqlite
def test_its_own_commits_do_not_stir_it(running: Ledger, leased_task: LeasedTask) -> None:
    leases = [leased_task() for _ in range(5)]
    done_by(running, lambda: running.turn(Wish()))
    seen: list[Any] = []
    wait_until(lambda: running._version is not None, "it has looked once")
    running.stirred = False

    for lease in leases:
        done_by(running, partial(running.turn, Wish([(lease, Succeeded("1"))])))
        seen.append(running._version)
        wait_until(lambda: running._errands.empty(), "it is idle")

    assert not running.stirred
    assert len(set(seen)) == 1


@pytest.mark.sqlite
def test_a_database_that_fails_while_it_looks_does_not_end_its_thread(
    running: Ledger, make_task: MakeTask
) -> None:
    done_by(running, lambda: running.turn(Wish()))
    wait_until(lambda: running._version is not None, "it has looked once")
    task = make_task()

    def break_connection() -> None:
        connections[database()].connection.close()  # behind Django's back: whatever asks it raises

    done_by(running, break_connection)
    wait_until(lambda: running._version is None, "it has looked, and hung up")
    turned, error = done_by(running, lambda: running.turn(Wish(idle=1)))

    assert error is None
    assert [lease.task_id for lease in turned.leases] == [task.pk]


def test_a_lease_is_settled_by_its_own_fence_alone(ledger: Ledger, leased_task: LeasedTask) -> None:
    lease = leased_task()

    turned = ledger.turn(Wish([(lease._replace(fence=lease.fence - 1), Succeeded("1"))]))

    assert len(turned.settlement.lost) == 1
    assert status_of(lease) == Status.PROCESSING
