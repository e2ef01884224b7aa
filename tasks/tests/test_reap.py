"""Taking back what nobody holds any more."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from tasks import lifecycle
from tasks.contract import Succeeded
from tasks.decide import CRASH_BUDGET
from tasks.models import Attempt
from tasks.states import Status
from tasks.tests.rows import LeasedTask, MakeTask, claimant, columns_for, row_of

SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)


def test_a_lapsed_task_is_ready_again_at_once(leased_task: LeasedTask) -> None:
    lease = leased_task()
    now = row_of(lease)["lease_expires_at"]

    [(reaped, _, _)] = lifecycle.reap(now=now).written

    after = row_of(lease)
    assert reaped.key == lease.key
    assert (after["status"], after["ready_at"], after["waiting_for"]) == (Status.PENDING, now, None)
    assert after["error"]["type"] == "tasks.errors.LeaseLapsed"


def test_a_lease_is_good_to_its_last_moment(leased_task: LeasedTask) -> None:
    lease = leased_task()

    assert lifecycle.reap(now=row_of(lease)["lease_expires_at"] - TICK).written == []
    assert row_of(lease)["status"] == Status.PROCESSING


def test_a_lapse_uses_its_attempt_but_never_the_crash_budget(leased_task: LeasedTask) -> None:
    lease = leased_task(crashes=CRASH_BUDGET - 1)

    lifecycle.reap(now=timezone.now() + timedelta(hours=1))

    assert (row_of(lease)["attempt"], row_of(lease)["crashes"]) == (1, CRASH_BUDGET - 1)
    assert Attempt.objects.get().outcome == Attempt.Outcome.LAPSED


def test_no_task_lapses_for_ever(leased_task: LeasedTask) -> None:
    lease = leased_task(queue="a", max_attempts=3)
    now, runs = timezone.now(), 1

    while True:
        now += timedelta(hours=1)
        lifecycle.reap(now=now)
        again = lifecycle.claim(claimant("a"), limit=1, now=now)
        if not again:
            break
        runs += 1

    assert runs == 3
    assert row_of(lease)["status"] == Status.FAILED
    assert [attempt.number for attempt in Attempt.objects.all()] == [1, 2, 3]


def test_what_the_caller_has_in_hand_is_spared(leased_task: LeasedTask) -> None:
    mine, other = leased_task(), leased_task()

    settlement = lifecycle.reap(now=timezone.now() + timedelta(hours=1), spared=[mine.task_id])

    assert [lease.key for lease, _, _ in settlement.written] == [other.key]
    assert row_of(mine)["status"] == Status.PROCESSING


def test_what_dead_workers_held_is_taken_before_its_lease_ends(make_task: MakeTask) -> None:
    for queue in ("dead", "alive", "finished"):
        make_task(queue=queue)
    [dead] = lifecycle.claim(claimant("dead", worker_id="dead"), limit=1, now=timezone.now())
    [alive] = lifecycle.claim(claimant("alive", worker_id="alive"), limit=1, now=timezone.now())
    [finished] = lifecycle.claim(claimant("finished", worker_id="dead"), limit=1, now=timezone.now())
    lifecycle.settle([(finished, Succeeded())], now=timezone.now())

    settlement = lifecycle.reap(now=timezone.now(), dead_workers=["dead", "gone"])

    assert [lease.key for lease, _, _ in settlement.written] == [dead.key]
    assert row_of(alive)["status"] == Status.PROCESSING
    assert row_of(finished)["status"] == Status.COMPLETED


def test_what_a_dead_worker_had_not_begun_costs_no_attempt_and_keeps_its_place(make_task: MakeTask) -> None:
    tasks = [make_task(queue="dead") for _ in range(2)]
    ran, unbegun = lifecycle.claim(claimant("dead", worker_id="dead"), limit=2, now=timezone.now())

    lifecycle.reap(now=timezone.now(), dead_workers=["dead"], begun_by={"dead": [ran.key]}.get)

    assert (row_of(ran)["status"], row_of(ran)["attempt"]) == (Status.PENDING, 1)
    assert (row_of(unbegun)["status"], row_of(unbegun)["attempt"]) == (Status.PENDING, 0)
    assert row_of(unbegun)["ready_at"] == {task.pk: task.ready_at for task in tasks}[unbegun.task_id]
    assert [attempt.task_id for attempt in Attempt.objects.all()] == [ran.task_id]


def test_those_that_lapsed_first_are_taken_first_and_a_page_at_a_time(make_task: MakeTask) -> None:
    now = timezone.now()
    tasks = [
        make_task(
            Status.PROCESSING, **columns_for(Status.PROCESSING) | {"lease_expires_at": now - ago * SECOND}
        )
        for ago in (1, 3, 2)
    ]

    pages = [{lease.task_id for lease, _, _ in lifecycle.reap(now=now, limit=2).written} for _ in range(3)]

    assert pages == [{tasks[1].pk, tasks[2].pk}, {tasks[0].pk}, set()]


def test_a_task_that_was_to_be_cancelled_is_not_run_again(leased_task: LeasedTask) -> None:
    lease = leased_task()
    lifecycle.cancel([lease.task_id])

    lifecycle.reap(now=timezone.now() + timedelta(hours=1))

    assert row_of(lease)["status"] == Status.CANCELLED


def test_the_next_claim_has_a_higher_fence_and_the_old_lease_is_lost(leased_task: LeasedTask) -> None:
    old = leased_task(queue="a")
    lifecycle.reap(now=timezone.now() + timedelta(hours=1))
    [new] = lifecycle.claim(claimant("a"), limit=1, now=timezone.now() + timedelta(hours=1))

    settlement = lifecycle.settle([(old, Succeeded('"late"'))], now=timezone.now())

    assert new.fence > old.fence
    assert (settlement.written, settlement.lost) == ([], [old])
