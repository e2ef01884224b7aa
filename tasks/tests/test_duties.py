"""What a worker does now and then, each duty by itself and without a process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks.contract import Lease
from tasks.lifecycle import Extension
from tasks.models import Attempt, Task, Worker
from tasks.models.task import database
from tasks.sqlite.base import DatabaseWrapper
from tasks.states import Status, WaitingFor
from tasks.tests.rows import LEASE_FOR, LeasedTask, MakeTask, Steal, claimant
from tasks.worker import duties as module
from tasks.worker.duties import Duties, Duty
from tasks.worker.lock import WorkerLock, place_of_locks

pytestmark = pytest.mark.django_db(transaction=True)

MakeDuties = Callable[..., Duties]


@pytest.fixture
def duties() -> Duties:
    return _duties(None)


def _duties(lock: WorkerLock | None) -> Duties:
    who = claimant()
    presence = Worker(id=who.worker_id, host="here", pid=1, executors=3, handlers=list(who.handlers))
    return Duties(who, presence, lock)


@contextmanager
def no_transaction() -> Iterator[None]:
    """Nothing is written: an idle worker must not take the write gate, nor fill the WAL."""
    with CaptureQueriesContext(connections[database()]) as captured:
        yield
    assert not [
        query["sql"] for query in captured.captured_queries if query["sql"].startswith(("BEGIN", "COMMIT"))
    ]


def lapse(lease: Lease) -> None:
    Task.objects.filter(pk=lease.task_id).update(lease_expires_at=timezone.now() - timedelta(seconds=1))


def status_of(task_id: UUID) -> str:
    return str(Task.objects.get(pk=task_id).status)


# -- when


def test_a_duty_is_due_at_once_and_then_every_so_often(duties: Duties) -> None:
    for duty in duties.table():
        now = time.monotonic()
        assert duty.due <= now

        duty.put_off(now)

        assert duty.due == now + duty.every.total_seconds()


def test_leases_are_renewed_three_times_before_they_end(duties: Duties) -> None:
    [extend] = [duty for duty in duties.table() if duty.name == "extend"]

    assert extend.every == LEASE_FOR / 3


def test_a_worker_is_seen_often_enough_to_count_as_alive(duties: Duties) -> None:
    from tasks.lifecycle.workers import ALIVE_FOR

    [present] = [duty for duty in duties.table() if duty.name == "worker"]

    assert present.every <= ALIVE_FOR / 2


def test_when_nothing_is_to_be_done_no_duty_writes(duties: Duties) -> None:
    duties.present([])
    idle: list[Duty] = [duty for duty in duties.table() if duty.name not in ("worker", "checkpoint")]

    with no_transaction():
        for duty in idle:
            duty.run([])


# -- extend


def test_what_is_in_hand_is_renewed(duties: Duties, leased_task: LeasedTask) -> None:
    leases = [leased_task() for _ in range(3)]
    before = Task.objects.get(pk=leases[0].task_id).lease_expires_at
    assert before is not None

    extension = duties.extend(leases)

    assert isinstance(extension, Extension)
    assert extension.held == {lease.task_id for lease in leases}
    assert not extension.lost
    after = Task.objects.get(pk=leases[0].task_id).lease_expires_at
    assert after is not None
    assert after > before


def test_renewing_tells_who_is_to_stop_and_what_was_lost(
    duties: Duties, leased_task: LeasedTask, steal: Steal
) -> None:
    kept, asked, stolen = leased_task(), leased_task(), leased_task()
    Task.objects.filter(pk=asked.task_id).update(cancel_requested_at=timezone.now())
    steal(stolen)

    extension = duties.extend([kept, asked, stolen])

    assert extension is not None
    assert extension.cancelled == {asked.task_id}
    assert extension.lost == (stolen,)


# -- the worker's row


def test_a_worker_writes_down_that_it_lives_and_what_it_knows(duties: Duties) -> None:
    duties.present([])
    first = Worker.objects.get()
    duties.present([])

    [row] = Worker.objects.all()
    assert row.handlers == list(claimant().handlers)
    assert row.started_at == first.started_at
    assert row.last_seen_at > first.last_seen_at


def test_a_row_that_somebody_removed_comes_back(duties: Duties) -> None:
    duties.present([])
    Worker.objects.all().delete()

    duties.present([])

    assert Worker.objects.count() == 1


# -- reap


def test_what_lapsed_is_taken_back(duties: Duties, leased_task: LeasedTask) -> None:
    lease = leased_task()
    lapse(lease)

    settlement = duties.reap([])

    assert [ended[0].task_id for ended in settlement.written] == [lease.task_id]
    assert status_of(lease.task_id) == Status.PENDING
    assert Attempt.objects.get().outcome == Attempt.Outcome.LAPSED


def test_however_much_lapsed_is_taken_back_at_once(duties: Duties, leased_task: LeasedTask) -> None:
    lapsed = [leased_task() for _ in range(2 * module.REAPED_AT_ONCE + 1)]
    for lease in lapsed:
        lapse(lease)

    assert len(duties.reap([]).written) == len(lapsed)


def test_what_the_worker_has_in_hand_itself_is_never_taken(duties: Duties, leased_task: LeasedTask) -> None:
    """A laptop that slept must not rob itself."""
    lease = leased_task()
    lapse(lease)

    with no_transaction():
        settlement = duties.reap([lease])

    assert settlement.written == []
    assert status_of(lease.task_id) == Status.PROCESSING
    extension = duties.extend([lease])
    assert extension is not None
    assert extension.held == {lease.task_id}


@pytest.fixture
def lock() -> Iterator[WorkerLock]:
    made = WorkerLock(place_of_locks(database()), claimant().worker_id)
    yield made
    made.remove()
    made.close()


def dead_worker(name: str = "host:9:dead") -> str:
    """Its lock file is there, and nobody holds the lock."""
    WorkerLock(place_of_locks(database()), name).close()
    return name


def test_a_lease_of_ours_that_nobody_here_knows_of_goes_back_unbilled(
    lock: WorkerLock, leased_task: LeasedTask
) -> None:
    """The commit of its claim came about, and the answer was lost."""
    known, unknown = leased_task(), leased_task()

    settlement = _duties(lock).reap([known])

    assert [ended[0].task_id for ended in settlement.written] == [unknown.task_id]
    assert (status_of(known.task_id), status_of(unknown.task_id)) == (Status.PROCESSING, Status.PENDING)
    assert Task.objects.get(pk=unknown.task_id).attempt == 0
    assert not Attempt.objects.exists()


def test_what_a_dead_worker_held_is_taken_back_at_once(lock: WorkerLock, make_task: MakeTask) -> None:
    name = dead_worker()
    held = make_task(Status.PROCESSING, worker_id=name, attempt=1)
    others = make_task(Status.PROCESSING, worker_id="host:2:other", attempt=1)
    Worker.objects.create(
        id=name, host="h", pid=9, executors=1, started_at=timezone.now(), last_seen_at=timezone.now()
    )

    settlement = _duties(lock).reap([])

    assert [ended[0].task_id for ended in settlement.written] == [held.pk]
    assert (status_of(held.pk), status_of(others.pk)) == (Status.PENDING, Status.PROCESSING)
    assert not Worker.objects.filter(pk=name).exists()
    with no_transaction():
        assert _duties(lock).reap([]).written == []  # it is buried


def test_a_worker_that_lives_keeps_what_it_holds(lock: WorkerLock, make_task: MakeTask) -> None:
    living = WorkerLock(place_of_locks(database()), "host:3:living")
    held = make_task(Status.PROCESSING, worker_id="host:3:living", attempt=1)

    _duties(lock).reap([])

    assert status_of(held.pk) == Status.PROCESSING
    living.remove()
    living.close()


def test_burying_a_dead_worker_takes_nothing_from_ones_own_hand(
    lock: WorkerLock, leased_task: LeasedTask
) -> None:
    dead_worker()
    own = leased_task()
    lapse(own)

    _duties(lock).reap([own])

    assert status_of(own.task_id) == Status.PROCESSING


def test_a_dead_worker_that_held_much_is_taken_over_at_once_a_page_at_a_time(
    lock: WorkerLock, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REAPED_AT_ONCE", 2)
    name = dead_worker()
    for _ in range(5):
        make_task(Status.PROCESSING, worker_id=name, attempt=1)

    settlement = _duties(lock).reap([])

    assert len(settlement.written) == 5
    assert not Task.objects.filter(status=Status.PROCESSING).exists()


# -- park


def test_what_nobody_knows_is_set_aside_and_set_free_by_who_knows_it(
    duties: Duties, make_task: MakeTask
) -> None:
    stranger = make_task(handler="app.unknown")
    mine = make_task(ready_at=None, waiting_for=WaitingFor.HANDLER)

    duties.park([])

    stranger.refresh_from_db()
    mine.refresh_from_db()
    assert (stranger.ready_at, stranger.waiting_for) == (None, WaitingFor.HANDLER)
    assert mine.ready_at is not None
    assert mine.waiting_for is None


def test_what_another_living_worker_knows_is_left_to_it(duties: Duties, make_task: MakeTask) -> None:
    now = timezone.now()
    Worker.objects.create(
        id="w2", host="h", pid=2, executors=1, handlers=["app.theirs"], started_at=now, last_seen_at=now
    )
    theirs = make_task(handler="app.theirs")

    duties.park([])

    theirs.refresh_from_db()
    assert theirs.waiting_for is None


# -- expire


def test_what_expired_before_it_ran_has_failed(duties: Duties, make_task: MakeTask) -> None:
    late = make_task(expires_at=timezone.now() - timedelta(seconds=1))
    early = make_task(expires_at=timezone.now() + timedelta(seconds=60))

    duties.expire([])

    assert (status_of(late.pk), status_of(early.pk)) == (Status.FAILED, Status.PENDING)


def test_what_expired_after_a_failure_is_no_failure_of_that_kind(duties: Duties, make_task: MakeTask) -> None:
    task = make_task(expires_at=timezone.now() - timedelta(seconds=1), fingerprint="abc", attempt=1)

    duties.expire([])

    assert Task.objects.get(pk=task.pk).fingerprint is None


# -- checkpoint


def wal_bytes() -> int:
    connection = connections[database()]
    assert isinstance(connection, DatabaseWrapper)
    return connection.wal_bytes()


@pytest.mark.sqlite
def test_a_wal_that_has_grown_is_written_back(
    duties: Duties, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_task()
    grown = wal_bytes()  # by this and earlier tests
    assert grown > 0

    monkeypatch.setattr(module, "CHECKPOINT_WAL_BYTES", grown)
    duties.checkpoint([])
    assert wal_bytes() > 0  # not too large, and somebody has just written

    monkeypatch.setattr(module, "CHECKPOINT_WAL_BYTES", grown - 1)
    duties.checkpoint([])
    assert wal_bytes() == 0


@pytest.mark.sqlite
def test_a_small_wal_is_written_back_when_nobody_has_written_for_a_while(
    duties: Duties, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_task()
    duties.checkpoint([])

    monkeypatch.setattr(module, "QUIET", timedelta(0))
    duties.checkpoint([])

    assert wal_bytes() == 0
